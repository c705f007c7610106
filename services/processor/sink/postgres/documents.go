package postgres

import (
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// documents are the JSON documents of a batch, as one text[]. nil is NULL. A []byte of its
// own would be bytea in some query modes.
type documents [][]byte

// Dimensions implements pgtype.ArrayGetter.
func (d documents) Dimensions() []pgtype.ArrayDimension {
	return []pgtype.ArrayDimension{{Length: int32(len(d)), LowerBound: 1}} //nolint:gosec // a batch is small
}

// Index implements pgtype.ArrayGetter.
func (d documents) Index(i int) any { return d[i] }

// IndexType implements pgtype.ArrayGetter.
func (d documents) IndexType() any { return []byte(nil) }

func registerDocuments(conn *pgx.Conn) {
	types := conn.TypeMap()
	text, ok := types.TypeForOID(pgtype.TextOID)
	if !ok {
		return // it is built in
	}
	codec := documentsCodec{&pgtype.ArrayCodec{ElementType: text}}
	types.RegisterType(&pgtype.Type{Name: "_text", OID: pgtype.TextArrayOID, Codec: codec})
	types.RegisterDefaultPgType(documents(nil), "_text")
}

// documentsCodec makes room for all documents at once. Growing by appending, megabytes
// would be copied several times.
type documentsCodec struct{ *pgtype.ArrayCodec }

// PlanEncode implements pgtype.Codec.
func (c documentsCodec) PlanEncode(m *pgtype.Map, oid uint32, format int16, value any) pgtype.EncodePlan {
	plan := c.ArrayCodec.PlanEncode(m, oid, format, value)
	if _, ok := value.(documents); !ok || plan == nil {
		return plan
	}
	return documentsPlan{plan}
}

type documentsPlan struct{ pgtype.EncodePlan }

// Encode implements pgtype.EncodePlan.
func (p documentsPlan) Encode(value any, buf []byte) ([]byte, error) {
	const header, length = 64, 4
	size := header
	for _, d := range value.(documents) {
		size += length + len(d)
	}
	return p.EncodePlan.Encode(value, slices.Grow(buf, size))
}
