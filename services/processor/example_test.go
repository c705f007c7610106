package processor_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
	"github.com/ledgerfeed/ledgerfeed/services/processor"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// A handler gets changes one by one and says of each what becomes of it.
func ExampleHandlerSink() {
	s := processor.HandlerSink("totals", func(_ context.Context, c *ledgerfeedv1.Change) error {
		if c.GetEntity() != "Invoice" || c.GetDeleted() {
			return nil // not for us: taken
		}
		var invoice struct{ TotalAmt json.Number }
		if err := json.Unmarshal(c.GetDocument(), &invoice); err != nil {
			return stream.Permanent(stream.ReasonSinkRefused, errors.New("no invoice")) // a dead letter
		}
		fmt.Println(sink.KeyOf(c), invoice.TotalAmt)
		return nil
	})
	// The service calls it so; a test of your own can, too.
	err := s.Write(context.Background(), []*ledgerfeedv1.Change{{
		RealmId: "9341453000000001", Entity: "Invoice", EntityId: "145", Version: 1795687229000003,
		Operation: ledgerfeedv1.Operation_OPERATION_CREATE, Document: []byte(`{"Id": "145", "TotalAmt": 362.07}`),
	}})
	fmt.Println(err)
	// Output:
	// 9341453000000001/Invoice/145/1795687229000003 362.07
	// <nil>
}

// The whole service with a handler of your own is a main of a few lines. It takes
// the settings of the processor; processor.sinks may be left out.
func ExampleServeWith() {
	show := func(_ context.Context, c *ledgerfeedv1.Change) error {
		fmt.Println(c.GetEntity(), c.GetEntityId(), c.GetOperation())
		return nil
	}
	program := lifecycle.Program{
		Name: "printer", Purpose: "Print what changes in QuickBooks.",
		Serve:       processor.ServeWith(processor.HandlerSink("printer", show)),
		Healthcheck: telemetry.Healthcheck,
	}
	os.Exit(program.Main(os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}
