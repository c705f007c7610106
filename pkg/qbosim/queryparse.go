package qbosim

import (
	"strconv"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
)

const (
	defaultPage = 100
	maxPage     = 1000
)

// selection is a parsed statement, checked against the fields of the entity.
type selection struct {
	info    entity.Info
	count   bool
	where   []condition
	orderBy field // zero: none
	desc    bool
	start   int // from 1
	max     int
	hides   func(entity, id string) bool // nil: none
}

// condition is one comparison; they all must hold.
type condition struct {
	field  field
	op     string // = < > <= >= IN LIKE
	values []value
}

// parser reads
//
//	SELECT * | COUNT(*) FROM Entity [WHERE a AND b] [ORDERBY f [ASC|DESC]] [STARTPOSITION n] [MAXRESULTS n]
type parser struct {
	tokens []token
	next   int
}

func parseQuery(statement string) (*selection, *fault) {
	tokens, f := tokenize(statement)
	if f != nil {
		return nil, f
	}
	p := &parser{tokens: tokens}
	sel := &selection{start: 1, max: defaultPage}
	for _, step := range []func(*selection) *fault{p.what, p.from, p.conditions, p.order, p.page} {
		if f := step(sel); f != nil {
			return nil, f
		}
	}
	if p.peek().kind != tokenEnd {
		return nil, p.unexpected("")
	}
	return sel, nil
}

func (p *parser) peek() token { return p.tokens[p.next] }

func (p *parser) take() token {
	t := p.tokens[p.next]
	if t.kind != tokenEnd {
		p.next++
	}
	return t
}

// accept takes the next tokens if they are these.
func (p *parser) accept(texts ...string) bool {
	for i, text := range texts {
		if p.next+i >= len(p.tokens) || !p.tokens[p.next+i].is(text) {
			return false
		}
	}
	p.next += len(texts)
	return true
}

func (p *parser) expect(texts ...string) *fault {
	if !p.accept(texts...) {
		return p.unexpected(texts[0])
	}
	return nil
}

func (p *parser) unexpected(wanted string) *fault {
	t := p.peek()
	if wanted == "" {
		return unreadableQuery("Encountered \" %s\" at line 1, column %d.", t.text, t.at)
	}
	return unreadableQuery("Encountered \" %s\" at line 1, column %d. Was expecting: %q", t.text, t.at, wanted)
}

func (p *parser) what(sel *selection) *fault {
	if f := p.expect("SELECT"); f != nil {
		return f
	}
	if p.accept("COUNT", "(", "*", ")") {
		sel.count = true
		return nil
	}
	return p.expect("*")
}

func (p *parser) from(sel *selection) *fault {
	if f := p.expect("FROM"); f != nil {
		return f
	}
	name := p.peek()
	if name.kind != tokenWord {
		return p.unexpected("an entity")
	}
	info, ok := entity.Lookup(name.text)
	if !ok || !info.Query || info.Name != name.text {
		return invalidQuery("Metadata not found for Entity: %s", name.text)
	}
	sel.info = info
	p.take()
	return nil
}

func (p *parser) conditions(sel *selection) *fault {
	if !p.accept("WHERE") {
		return nil
	}
	for {
		c, f := p.condition(sel.info)
		if f != nil {
			return f
		}
		sel.where = append(sel.where, c)
		if !p.accept("AND") {
			return nil
		}
	}
}

func (p *parser) condition(info entity.Info) (condition, *fault) {
	var c condition
	var f *fault
	if c.field, f = p.field(info); f != nil {
		return c, f
	}
	if c.op = p.operator(); c.op == "" {
		return c, p.unexpected("an operator")
	}
	words := make([]token, 1)
	if c.op == "IN" {
		words, f = p.list()
	} else {
		words[0], f = p.literal()
	}
	if f != nil {
		return c, f
	}
	for _, word := range words {
		v, f := c.field.value(c.op, word)
		if f != nil {
			return c, f
		}
		c.values = append(c.values, v)
	}
	return c, nil
}

func (p *parser) operator() string {
	for _, op := range []string{"=", "<=", ">=", "<", ">", "IN", "LIKE"} {
		if p.accept(op) {
			return op
		}
	}
	return ""
}

func (p *parser) field(info entity.Info) (field, *fault) {
	name := p.peek()
	if name.kind != tokenWord {
		return field{}, p.unexpected("a field")
	}
	p.take()
	kind, ok := fieldsOf(info)[name.text]
	if !ok {
		return field{}, invalidQuery("Property %s not found for Entity %s", name.text, info.Name)
	}
	return field{name: name.text, kind: kind}, nil
}

func (p *parser) list() ([]token, *fault) {
	if f := p.expect("("); f != nil {
		return nil, f
	}
	var all []token
	for {
		one, f := p.literal()
		if f != nil {
			return nil, f
		}
		all = append(all, one)
		if p.accept(")") {
			return all, nil
		}
		if f := p.expect(","); f != nil {
			return nil, f
		}
	}
}

func (p *parser) literal() (token, *fault) {
	t := p.peek()
	if t.kind != tokenText && t.kind != tokenNumber && !t.is("true") && !t.is("false") {
		return t, p.unexpected("a value")
	}
	return p.take(), nil
}

func (p *parser) order(sel *selection) (f *fault) {
	if !p.accept("ORDERBY") && !p.accept("ORDER", "BY") {
		return nil
	}
	if sel.orderBy, f = p.field(sel.info); f != nil {
		return f
	}
	sel.desc = p.accept("DESC")
	if !sel.desc {
		p.accept("ASC")
	}
	return nil
}

func (p *parser) page(sel *selection) *fault {
	if p.accept("STARTPOSITION") {
		if f := p.number(&sel.start, 1<<31-1); f != nil {
			return f
		}
	}
	if p.accept("MAXRESULTS") {
		return p.number(&sel.max, maxPage)
	}
	return nil
}

func (p *parser) number(into *int, most int) *fault {
	t := p.peek()
	n, err := strconv.Atoi(t.text)
	switch {
	case t.kind != tokenNumber || err != nil:
		return p.unexpected("a number")
	case n < 1:
		return invalidQuery("value %d is too small. Min allowed value is 1", n)
	case n > most:
		return invalidQuery("value %d is too large. Max allowed value is %d", n, most)
	}
	p.take()
	*into = n
	return nil
}
