package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"strings"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
)

// streamFaults are what somebody does to the streams by hand.
func streamFaults() []fault {
	return []fault{
		// In the group of the processors: while they stand still the stream may be full, and
		// then it drops what it has.
		{name: "stream-changed", group: "processor", least: 4 * time.Second, most: 8 * time.Second, weight: 2, effects: effects{repeats: true}, begin: changeStream},
		{name: "stream-remade", group: "broker", least: time.Second, most: 5 * time.Second, weight: 1, effects: effects{repeats: true, loses: true}, begin: remakeStream},
	}
}

// streamEdit is a setting that is changed by hand, and what a service says of it that is
// started then.
type streamEdit struct {
	name, setting string
	value         any
	says          string
}

var streamEdits = []streamEdit{
	{stream.EventStream, "max_age", (10 * time.Minute).Nanoseconds(), "stream limits raised"},
	{stream.EventStream, "discard", "old", "stream LF_EVENTS: discard is"},
	{stream.EventStream, "duplicate_window", (10 * time.Second).Nanoseconds(), "stream LF_EVENTS: duplicate_window is"},
	{stream.DeadStream, "max_age", (24 * time.Hour).Nanoseconds(), "stream limits raised"},
	{stream.RetryStream, "max_msgs", 1_000_000, "stream LF_RETRY: max_msgs is"},
}

// manageWait bounds how long the brokers may refuse an edit: without a leader they do.
const manageWait = 10 * time.Second

// changeStream changes a setting of a stream, or deletes a consumer, and then has a
// replica started again, which must say what is wrong.
func changeStream(ctx context.Context, r *run, rng *rand.Rand) (func(context.Context) error, string, error) {
	c := r.plant.cluster
	within, cancel := context.WithTimeout(ctx, manageWait)
	defer cancel()
	if rng.IntN(3) == 0 {
		name, err := c.deleteConsumer(within, stream.EventStream, rng)
		return nothing, "consumer " + name + " deleted", err
	}
	e := choose(rng, streamEdits)
	err := until(within, func(ctx context.Context) error {
		before, err := c.edit(ctx, e.name, map[string]any{e.setting: e.value})
		if err == nil {
			c.edited.LoadOrStore(e.name+" "+e.setting, before[e.setting])
		}
		return err
	})
	if err != nil {
		return nil, e.name, err
	}
	r.expectReport(ctx, choose(rng, r.plant.replicas()), e.says)
	return func(ctx context.Context) error { return until(ctx, c.restoreEdits) },
		fmt.Sprintf("%s %s is %v", e.name, e.setting, e.value), nil
}

// edit changes settings of a stream and returns those it had.
func (c *cluster) edit(ctx context.Context, name string, settings map[string]any) (before map[string]any, err error) {
	config, err := c.streamConfig(ctx, name)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(config, &before); err != nil {
		return nil, err
	}
	after := maps.Clone(before)
	maps.Copy(after, settings)
	if reflect.DeepEqual(before, after) {
		return before, nil
	}
	return before, c.manage(ctx, "STREAM.UPDATE."+name, after)
}

// restoreEdits gives the streams the settings that they had before anybody changed them.
// It is called again at the end: the brokers may have lost the last change.
func (c *cluster) restoreEdits(ctx context.Context) error {
	var errs []error
	c.edited.Range(func(key, value any) bool {
		name, setting, _ := strings.Cut(key.(string), " ")
		_, err := c.edit(ctx, name, map[string]any{setting: value})
		errs = append(errs, err)
		return true
	})
	return errors.Join(errs...)
}

// remakeStream deletes the event stream with what is on it and makes another one of that
// name that keeps less. When the fault ends it is deleted again, and a service makes the
// right one.
func remakeStream(ctx context.Context, r *run, _ *rand.Rand) (func(context.Context) error, string, error) {
	c := r.plant.cluster
	wrong := map[string]any{
		"name": stream.EventStream, "subjects": []string{"lf.event.>"}, "retention": "limits", "storage": "memory",
		"num_replicas": 1, "max_age": time.Minute.Nanoseconds(), "discard": "old",
	}
	within, cancel := context.WithTimeout(ctx, manageWait)
	defer cancel()
	err := until(within, func(ctx context.Context) error {
		// A service may be faster and make the right one: then the edit is repeated.
		_ = c.manage(ctx, "STREAM.DELETE."+stream.EventStream, nil)
		return c.manage(ctx, "STREAM.CREATE."+stream.EventStream, wrong)
	})
	if err != nil {
		return nil, "", err
	}
	return func(ctx context.Context) error {
		return until(ctx, func(ctx context.Context) error {
			config, err := c.streamConfig(ctx, stream.EventStream)
			var is struct{ Storage string }
			switch {
			case err != nil:
				return err
			case json.Unmarshal(config, &is) == nil && is.Storage == "file":
				return nil
			}
			return errors.Join(errors.New("the stream is still the wrong one"), c.manage(ctx, "STREAM.DELETE."+stream.EventStream, nil))
		})
	}, "in memory, for a minute", nil
}

// streamConfig is the configuration of a stream, as JSON.
func (c *cluster) streamConfig(ctx context.Context, name string) (json.RawMessage, error) {
	var info struct{ Config json.RawMessage }
	if err := c.ask(ctx, "STREAM.INFO."+name, nil, &info); err != nil {
		return nil, err
	}
	return info.Config, nil
}

// deleteConsumer deletes one of the consumers of a stream.
func (c *cluster) deleteConsumer(ctx context.Context, of string, rng *rand.Rand) (name string, err error) {
	var list struct{ Consumers []string }
	if err := c.ask(ctx, "CONSUMER.NAMES."+of, nil, &list); err != nil {
		return "", err
	}
	if len(list.Consumers) == 0 {
		return "", errors.New("the stream has no consumer")
	}
	name = choose(rng, list.Consumers)
	return name, c.manage(ctx, "CONSUMER.DELETE."+of+"."+name, nil)
}

// manage asks the brokers for a change.
func (c *cluster) manage(ctx context.Context, what string, body any) error {
	return c.ask(ctx, what, body, &struct{}{})
}

// ask asks the brokers, by the plain protocol: only package stream knows the client.
func (c *cluster) ask(ctx context.Context, what string, body, into any) error {
	payload := []byte{}
	if body != nil {
		var err error
		if payload, err = json.Marshal(body); err != nil {
			return err
		}
	}
	var errs []error
	for _, port := range c.clients {
		answer, err := request(ctx, local(port), "$JS.API."+what, string(payload))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		var failed struct {
			Error *struct{ Description string }
		}
		if err := json.Unmarshal([]byte(answer), &failed); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		if failed.Error != nil {
			return fmt.Errorf("%s: %s", what, failed.Error.Description)
		}
		return json.Unmarshal([]byte(answer), into)
	}
	return errors.Join(errs...)
}
