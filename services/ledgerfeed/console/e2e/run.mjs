// Drives the console of a running `ledgerfeed dev` in headless Chromium: every page at
// two sizes with axe, without JavaScript, and every action to its effect.
//   node run.mjs http://127.0.0.1:8090 SCREENSHOTS PORT
// dev has a sink webhook:http://127.0.0.1:PORT, which is served here.
import {mkdirSync} from 'node:fs'
import {createServer} from 'node:http'
import {createRequire} from 'node:module'
import {chromium} from 'playwright-core'

const [base, shots] = [process.argv[2].replace(/\/$/, ''), process.argv[3]]
const axe = createRequire(import.meta.url).resolve('axe-core/axe.min.js')
mkdirSync(shots, {recursive: true})

let passed = 0
const failures = []
async function check(name, f) {
  try {
    await f()
    passed++
  } catch (err) {
    failures.push(name)
    console.error(`FAIL ${name}: ${err.message.split('\n').slice(0, 6).join(' | ')}`)
  }
}
function must(ok, what) {
  if (!ok) throw new Error(what)
}
async function until(what, f, within = 60_000) {
  const end = Date.now() + within
  for (;;) {
    if (await f()) return
    if (Date.now() > end) throw new Error(`not within ${within} ms: ${what}`)
    await new Promise(r => setTimeout(r, 250))
  }
}
const get = async path => (await fetch(base + '/api/v1' + path)).json()

// receiver is the sink: it refuses everything for good while it is broken.
let broken = false
const taken = new Set()
createServer((req, res) => {
  let body = ''
  req.on('data', part => body += part)
  req.on('end', () => {
    if (!broken) for (const c of [JSON.parse(body)].flat()) taken.add(c.subject.replace('/', ' '))
    res.writeHead(broken ? 422 : 204).end()
  })
}).listen(Number(process.argv[4]), '127.0.0.1').unref()

const browser = await chromium.launch({executablePath: process.env.CHROMIUM || '/usr/bin/chromium', args: ['--no-sandbox']})
const realm = (await get('/realms')).realms[0].realm
const pages = {
  overview: '/', overview_day: '/?range=day', realms: '/realms', realm: '/realms/' + realm, gaps: '/gaps', deletions: '/deletions', dead: '/dead', sinks: '/sinks',
  budget: '/budget', audit: '/audit', audit_realm: '/audit?realm=' + realm, actions: '/actions', settings: '/settings', connect: '/connecting',
  test: '/test', nothing: '/realms?q=0', missing: '/nowhere',
}
await until('samples', async () => (await get('/overview')).samples?.length > 1)

for (const [size, viewport] of Object.entries({desk: {width: 1280, height: 900}, phone: {width: 390, height: 844}})) {
  for (const colorScheme of ['light', 'dark']) {
    const context = await browser.newContext({viewport, colorScheme})
    const page = await context.newPage()
    const errors = []
    page.on('console', m => m.type() === 'error' && !/status of 404/.test(m.text()) && errors.push(m.text()))
    page.on('pageerror', e => errors.push(e.message))
    for (const [name, path] of Object.entries(pages)) {
      await check(`${name} ${size} ${colorScheme}`, async () => {
        errors.length = 0
        await page.goto(base + path)
        must(await page.locator('h1').count() === 1, 'one h1')
        const wide = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth)
        must(wide <= 0, `${wide} px wider than the screen`)
        await page.screenshot({path: `${shots}/${name}-${size}-${colorScheme}.png`, fullPage: true})
        await page.evaluate(await import('node:fs').then(fs => fs.readFileSync(axe, 'utf8')))
        const found = await page.evaluate(() => window.axe.run())
        const serious = found.violations.filter(v => ['serious', 'critical'].includes(v.impact))
        must(serious.length === 0, serious.map(v => `${v.id}: ${v.nodes[0].target} ${v.nodes[0].failureSummary}`).join('; '))
        must(errors.length === 0, errors.join('; '))
      })
    }
    await context.close()
  }
}

await check('pages are readable without JavaScript', async () => {
  const context = await browser.newContext({javaScriptEnabled: false})
  const page = await context.newPage()
  for (const path of Object.values(pages)) {
    await page.goto(base + path)
    must((await page.locator('main').innerText()).length > 20, path)
  }
  await context.close()
})

const context = await browser.newContext()
const page = await context.newPage()
const note = () => page.locator('.note').innerText()

await check('the skip link is the first stop of the keyboard', async () => {
  await page.goto(base + '/')
  await page.keyboard.press('Tab')
  must(await page.evaluate(() => document.activeElement.className === 'skip'), 'focus is elsewhere')
})
await check('the overview is kept up to date by server-sent events', async () => {
  await page.goto(base + '/')
  await page.evaluate(() => { document.querySelector('.tiles').dataset.old = 'yes' })
  await page.waitForFunction(() => !document.querySelector('.tiles').dataset.old, null, {timeout: 20_000})
})
await check('scan now', async () => {
  await page.goto(`${base}/realms/${realm}`)
  await page.getByRole('button', {name: 'Scan now'}).click()
  must((await note()).includes('scan is asked for'), await note())
})
await check('backfill loads a kind again', async () => {
  await until('no scan is under way', async () => {
    await page.goto(`${base}/realms/${realm}`)
    await page.getByText('Backfill…').click()
    await page.getByLabel('Kind of record').selectOption('Vendor')
    await page.getByRole('button', {name: 'Backfill', exact: true}).click()
    return !(await page.locator('h1').innerText()).includes('scan is under way')
  })
  await page.locator('section.job').waitFor()
  await until('it is done', async () => { const j = (await get('/realms/' + realm)).scan; return j.load && j.state === 'done' && j.progress.records > 0 })
})
await check('pause and resume a sink', async () => {
  await page.goto(base + '/sinks')
  await page.getByRole('button', {name: 'Pause'}).first().click()
  must((await get('/sinks')).sinks[0].paused, 'paused')
  await until('changes wait', async () => (await get('/sinks')).sinks[0].waiting > 0)
  await page.goto(base + '/sinks')
  await page.getByRole('button', {name: 'Resume'}).first().click()
  must(!(await get('/sinks')).sinks[0].paused, 'resumed')
  await until('nothing waits', async () => (await get('/sinks')).sinks[0].waiting < 20, 120_000)
})
await check('replay a range', async () => {
  await page.goto(base + '/sinks')
  await page.getByText('Replay…').first().click()
  await page.getByLabel('Realm').first().fill(realm)
  await page.getByLabel('Kind of record').first().selectOption('Customer')
  await page.getByRole('button', {name: 'Replay', exact: true}).first().click()
  must((await note()).includes('replay has begun'), await note())
  await until('it is over', async () => { const r = (await get('/sinks')).replays[0]; return !r.running && !r.error && r.records > 0 })
})
await check('a test webhook is answered 200', async () => {
  await page.goto(base + '/test')
  await page.getByLabel('Realm').fill(realm)
  await page.getByLabel('Id').fill('999999')
  await page.getByRole('button', {name: 'Send'}).click()
  must((await note()).includes('answered 200'), await note())
})
await check('what does not exist ends as a dead letter, which can be requeued and purged', async () => {
  await until('a dead letter', async () => (await get('/dead')).letters.length > 0, 90_000)
  await page.goto(base + '/dead')
  await page.locator('tbody th a').first().click()
  await page.screenshot({path: `${shots}/letter-desk-light.png`, fullPage: true})
  await page.getByRole('button', {name: 'Requeue'}).click()
  must((await note()).includes('1 of 1 dead letters requeued'), await note())
  await until('it is back', async () => (await get('/dead')).letters.length > 0, 90_000)
  await page.goto(base + '/dead')
  await page.getByText('Purge all…').click()
  await page.getByRole('button', {name: 'Purge for good'}).click()
  must((await get('/dead')).total === 0, 'it stays')
})
await check('connect a company', async () => {
  await page.goto(base + '/connecting')
  await page.getByRole('link', {name: 'Connect a company'}).click()
  await page.waitForURL(/connect\/oauth2/)
  await page.locator('button[value=yes], button').first().click()
  await page.waitForURL(/\/realms\/[0-9]+$/)
  const id = page.url().split('/').at(-1)
  must((await get('/realms/' + id)).state !== 'disconnected', 'it is connected')
})
await check('a newcomer: connect, see a change, break the sink, find and requeue the dead letter', async () => {
  // Connect.
  await page.goto(base + '/')
  await page.getByRole('link', {name: 'Connect', exact: true}).click()
  await page.getByRole('link', {name: 'Connect a company'}).click()
  await page.waitForURL(/connect\/oauth2/)
  await page.locator('button[value=yes], button').first().click()
  await page.waitForURL(/\/realms\/[0-9]+$/)
  // See a change.
  await until('a change is shown', async () => {
    await page.goto(`${base}/realms/${realm}`)
    return await page.locator('ol.timeline li').count() > 0
  })
  // Break the sink.
  broken = true
  await until('the menu tells of dead letters', async () => {
    await page.goto(base + '/dead?reason=sink-refused')
    return await page.locator('tbody th a').count() > 0
  }, 120_000)
  // Find and requeue.
  broken = false
  await page.locator('tbody th a').first().click()
  const text = await page.locator('main').innerText()
  must(text.includes('422'), 'the letter says what the sink answered')
  const {record} = await get('/dead/' + page.url().split('/').at(-1))
  taken.clear()
  await page.getByRole('button', {name: 'Requeue'}).click()
  must((await note()).includes('1 of 1 dead letters requeued'), await note())
  await until('the sink has it', async () => taken.has(record), 120_000)
})
await check('disconnect a company', async () => {
  const last = (await get('/realms')).realms.at(-1).realm
  await page.goto(`${base}/realms/${last}`)
  await page.getByRole('link', {name: 'Disconnect…'}).click()
  await page.getByRole('button').first().click()
  await until('it is disconnected', async () => (await get('/realms/' + last)).state === 'disconnected')
})
await check('all of it is in the log of actions', async () => {
  const done = new Set((await get('/actions')).actions.map(a => a.what))
  for (const what of ['scan', 'backfill', 'pause', 'resume', 'replay', 'send', 'requeue', 'purge', 'disconnect']) must(done.has(what), what)
})

await browser.close()
console.log(`${passed} checks passed, ${failures.length} failed`)
process.exit(failures.length ? 1 : 0)
