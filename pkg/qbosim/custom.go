package qbosim

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
)

// CDCFields is what CDC does with include=enhancedAllCustomFields. Intuit documents the
// parameter for Query and reads alone.
type CDCFields string

const (
	// CDCFieldsCut: the parameter changes nothing, an object has three custom fields.
	CDCFieldsCut CDCFields = "cut"
	// CDCFieldsAll: it works as for a Query.
	CDCFieldsAll CDCFields = "all"
	// CDCFieldsRefused: the call is refused.
	CDCFieldsRefused CDCFields = "refused"
)

const (
	includeFields = "enhancedAllCustomFields"
	// shownFields is how many custom fields an answer holds that was not asked for all.
	shownFields = 3
)

// enhanced says that the call asks for all custom fields.
func (c *call) enhanced() bool { return c.URL.Query().Get("include") == includeFields }

// shown is a record as an answer holds it: with all its custom fields or with three.
func (c *call) shown(raw []byte, all bool) []byte {
	if all || !bytes.Contains(raw, []byte(`"CustomField"`)) {
		return raw
	}
	var outer map[string]any
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(&outer); err != nil {
		return raw
	}
	record := outer
	if wrapped, ok := outer[repeated].(map[string]any); ok && len(outer) == 1 {
		record = wrapped
	}
	if custom, ok := record["CustomField"].([]any); ok && len(custom) > shownFields {
		record["CustomField"] = custom[:shownFields]
	}
	cut, err := json.Marshal(outer)
	if err != nil {
		return raw
	}
	return cut
}

// customFields makes up n custom fields.
func (s sampler) customFields(n int) []any {
	made := make([]any, n)
	for i := range made {
		made[i] = map[string]any{
			"DefinitionId": fmt.Sprint(i + 1), "Name": fmt.Sprintf("Field %d", i+1), "Type": "StringType", "StringValue": s.number(),
		}
	}
	return made
}

// hasCustomFields says whether a company may define custom fields for an entity.
func hasCustomFields(name string) bool {
	switch name {
	case "Bill", "CreditMemo", "Customer", "Estimate", "Invoice", "Purchase", "PurchaseOrder", "RefundReceipt", "SalesReceipt", "Vendor", "VendorCredit":
		return true
	}
	return false
}

func unknownInclude() *fault {
	return &fault{http.StatusBadRequest, "ValidationFault", "2010", "Request has invalid or unsupported property", "include: not supported"}
}
