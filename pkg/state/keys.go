package state

import (
	"fmt"
	"hash/crc32"
	"net/url"
)

// The keys, all of them. {R} is the realm, {S} a shard of realms, {N} a lease's
// name, each percent-encoded; the braces are the Redis Cluster hash tag. The
// number after "lf:" is the version of the layout: a new shape takes a new one.
//
//	key                        shape                              grows with
//	lf:1:mark:{R}:sink:entity  HASH id → "version,covered,hash"    records of that entity; no hash before 0.9 and on tombstones
//	lf:1:follow:{R}            HASH "entity:id" → FollowUp         records that the next scan looks at by id
//	lf:1:referenced:{R}        SET "entity:id"                     20,000; mostly none, see reconciler.refresh_referenced
//	lf:1:refreshed:{R}         STRING Unix ms                      gone after a day
//	lf:1:merged:{R}:entity:id  STRING id                           records merged away, into which one; 90 days
//	lf:1:cur:{R}               ZSET entity → Unix s                entities (~40)
//	lf:1:gen:{R}               STRING random                       one a realm whose cursors were rewound
//	lf:1:scan:{R}              HASH scan id → JSON                 scans not verified yet; each as big as what it missed
//	lf:1:dead:{R}              HASH "sink:entity:id" → "version,end,letter"  records that a sink did not get, until it gets them
//	lf:1:absent:{R}            HASH "entity:id" → "version,first"  records QuickBooks did not return once; MaxAbsences
//	lf:1:swept:{R}             HASH entity → "began,at" Unix s      entities, while all their ids are read
//	lf:1:counted:{R}           HASH entity → Unix s                entities that CDC covers
//	lf:1:gaps:{R}              HASH "entity:id" → a line for each  MaxGaps, trimmed; gone after 90 days
//	lf:1:seen:{R}              HASH "entity:operation" → Unix ms   entities × operations (~110)
//	lf:1:cover:{R}:week        HASH "entity:operation" → counts    entities × operations; five weeks
//	lf:1:company:{R}           HASH                                fixed: name, country, …, each up to 512 bytes
//	lf:1:companies:{app}       ZSET realm → Unix ms                realms
//	lf:1:pace:{R}              STRING "scanned,full,changed,a day"  one a realm
//	lf:1:refused:{R}           HASH "entity:way" → Unix ms          MaxRefusals; mostly none, those that last
//	lf:1:refusal:{R}           HASH "entity:way" → Refusal          the same and those that may pass, with their texts
//	lf:1:unread:{R}            HASH "entity:id" → JSON              records whose reads are refused; 10,000, gone after 3 h
//	lf:1:loaded:{R}            HASH entity → Unix s                 entities, while they are loaded
//	lf:1:use:{R}               HASH entity → "used,Unix s counted[,Unix s changed]"  entities only Query finds (18)
//	lf:1:fields:{R}            HASH                                 fixed: what CDC shows of custom fields
//	lf:1:job:{R}               HASH                                 the last scan asked for; 7 days
//	lf:1:jobs:{jobs}           ZSET realm → Unix ms, claimed till   realms somebody waits for
//	lf:1:outages:{outage}      ZSET "kind,from,to,detail" → to      MaxOutages
//	lf:1:watch:{outage}        HASH                                 fixed
//	lf:1:sinks                 SET name                            sinks
//	lf:1:behind:{sink}         HASH "realm:entity" → "oldest,notes,since"  what a sink did not get and no queue holds; realms × entities
//	lf:1:unconnected:{app}:DATE  SET realm                         MaxUnconnected; two days
//	lf:1:foreign               HASH "realm:app" → "events,first,last,day,connected app"  10,000; 30 days after the last
//	lf:1:registered:{lf:1:sinks} STRING JSON                       one: the configuration that registered the sinks
//	lf:1:position:{sink}       HASH                                fixed, and a field a cursor that must go back
//	lf:1:paused                SET name                            sinks that are paused
//	lf:1:sanitized             HASH sink → count                   sinks that replaced characters
//	lf:1:deletions             HASH "realm:entity" → JSON          deletions that wait for a person; 30 days after
//	lf:1:life                  STRING "run_id[-evicted]#random"   one: the Redis that sinks gave their marks back to
//	lf:1:actions               ZSET JSON → Unix ms                 10,000, trimmed; written by versions before the stream LF_ACTIONS
//	lf:1:console:{sessions}    STRING random                       one; replaced to end all sessions of the console
//	lf:1:actionqueue           LIST JSON                           actions that wait for the broker; 10,000
//	lf:1:series:{app}:name     HASH slot → JSON                    Series.Size; a ring
//	lf:1:calls:{app}:YYYY-MM   HASH "day:class" → calls made       70 days
//	lf:1:audit:{R}             HASH "sink:entity" → JSON           sinks × entities; gone after 180 days
//	lf:1:cover:{app}:date      HASH "entity:operation" → counts    entities × operations; a month
//	lf:1:heard:{app}           HASH "entity:operation" → Unix ms   entities × operations
//	lf:1:live:{app}            ZSET ten minutes                    two weeks of them (2016)
//	lf:1:unheard:{app}:entity:operation HASH realm → ten minutes   50 realms, six of each; two weeks
//	lf:1:told:{app}            ZSET realm → Unix ms                realms
//	lf:1:gapped:{app}          ZSET realm → Unix ms                realms
//	lf:1:called:{app}:DATE     ZSET realm → calls made             MaxCalled, trimmed; 9 days
//	lf:1:due:{S}               ZSET realm → Unix ms                realms
//	lf:1:claim:{S}             ZSET realm → Unix ms, claimed till  realms being scanned
//	lf:1:again:{S}             ZSET realm → Unix ms, due meanwhile realms being scanned
//
// Package connection adds its own, see there.
//
// lf:1:dead:{R} may hold fields "entity:id" → version of an earlier version. They name
// no sink and never end, so they excuse no sink from a change: that costs one more try
// to deliver it. They only count as records that QuickBooks may have and no sink has.
//
// Keys below are worth nothing after a restart and expire by themselves; an
// embedded server need not keep them, so no script mixes them with the others.
//
//	lf:tmp:1:lease:{N}         STRING owner                        leases held
//	lf:tmp:1:fence:{N}         STRING last fence                   leases taken in a day
//	lf:tmp:1:limit:{R}         HASH tat, box → µs                  realms called of late
//	lf:tmp:1:slot:{R}          ZSET call → expiry µs               LimitConfig.Concurrency
//	lf:tmp:1:wait:{R}          ZSET live call → expiry µs          live calls waiting
//	lf:tmp:1:recent:{R}        LIST µs of grants, newest first     LimitConfig.PerSecond
//	lf:tmp:1:config:{N}        ZSET "replica config" → expiry ms    replicas of a service
//	lf:tmp:1:trouble:{sink}    HASH replica → JSON                replicas, while a sink takes nothing; a minute
//	lf:tmp:1:replicas:{N}      ZSET replica → expiry ms            replicas of a service
//	lf:tmp:1:session:{NAME}    STRING, authenticated JSON          people logged in to the console; console.session_idle
//	lf:tmp:1:apprefused:{APP}:BY  ZSET realm → Unix ms             1,000; realms refused since one was answered
//	lf:tmp:1:appproblem:{APP}:BY  HASH                             fixed; while Intuit refuses the app
//	lf:tmp:1:appproblems:{all} SET app                             apps with such a problem
const (
	durable   = "lf:1:"
	ephemeral = "lf:tmp:1:"
)

// Shards is how many parts the schedule has. It is in the keys: never change it.
const Shards = 64

// Shard is the part of the schedule that realm belongs to, 0 to Shards-1.
func Shard(realm string) int {
	return int(crc32.ChecksumIEEE([]byte(realm)) % Shards)
}

// Key is the key of something durable about a realm, for packages that keep
// state of their own in this database.
func Key(kind, realm string) string { return durable + kind + ":" + tag(realm) }

// TempKey is the key of something that is worth nothing after a restart, for such
// packages. It must expire.
func TempKey(kind, name string) string { return ephemeralKey(kind, name) }

// tag is the hash tag of a realm or a name. An empty tag would be none, so that
// Redis Cluster spread the keys; no encoded text is a lone "%".
func tag(s string) string {
	if s == "" {
		return "{%}"
	}
	return "{" + url.QueryEscape(s) + "}"
}

func ephemeralKey(kind, name string) string { return ephemeral + kind + ":" + tag(name) }

func shardKey(kind string, shard int) string {
	return fmt.Sprintf("%s%s:{shard-%02d}", durable, kind, shard)
}

func markKey(realm, sink, entity string) string {
	return Key("mark", realm) + ":" + url.QueryEscape(sink) + ":" + url.QueryEscape(entity)
}

// pairField joins two names into a hash field that pairOf can take apart.
func pairField(a, b string) string { return url.QueryEscape(a) + ":" + url.QueryEscape(b) }
