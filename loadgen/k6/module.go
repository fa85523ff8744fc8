package k6

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/grafana/sobek"
	"go.k6.io/k6/js/common"
	"go.k6.io/k6/js/modules"
	"go.k6.io/k6/js/promises"

	"statequake/history"
	"statequake/loadgen"
	"statequake/loadgen/script"
)

// RootModule is the module k6/x/statequake, which k6 instantiates for every
// virtual user.
type RootModule struct{ s *session }

// NewModuleInstance is modules.Module's.
func (r *RootModule) NewModuleInstance(vu modules.VU) modules.Instance {
	m := &module{vu: vu, s: r.s}
	measures, err := newMeasures(vu.InitEnv().Registry)
	if err != nil {
		common.Throw(vu.Runtime(), err)
	}
	m.measures = measures
	return m
}

// module is what one virtual user imports.
type module struct {
	vu       modules.VU
	s        *session
	measures *measures
}

// Exports is modules.Instance's.
func (m *module) Exports() modules.Exports {
	named := map[string]any{"connect": m.connect, "pacer": m.pacer, "tag": m.tag}
	return modules.Exports{Default: named, Named: named}
}

// tag tells this run from others on the same system: keys that it is a part of
// are new.
func (m *module) tag() (string, error) {
	conn, err := m.s.conn()
	if conn == nil {
		return tag, err
	}
	return conn.Tag, nil
}

// connect returns a client.
func (m *module) connect(options sobek.Value) (*Client, error) {
	o, err := m.options("connect", options, "url", "urls", "run", "timeout", "retries", "maxConns")
	if err != nil {
		return nil, err
	}
	conn, err := m.s.conn()
	if err != nil {
		return nil, err
	}
	if conn != nil {
		if len(o.values) > 0 {
			return nil, fmt.Errorf("statequake.connect: %s: the scenario that started this script decides that\nhint: connect() without options; the scenario has load.timeout, load.retry, load.max_conns",
				strings.Join(slices.Sorted(maps.Keys(o.values)), ", "))
		}
		return &Client{m, conn}, nil
	}
	c := targetConfig{
		urls: o.texts("url"), run: o.texts("run"),
		timeout: o.duration("timeout", 10*time.Second), retries: int(o.number("retries", 3)), maxConns: int(o.number("maxConns", 1024)),
	}
	if more := o.texts("urls"); more != "" {
		c.urls = strings.Trim(c.urls+","+more, ",")
	}
	if c.urls == "" && c.run == "" {
		c.urls, c.run = os.Getenv("STATEQUAKE_URL"), os.Getenv("STATEQUAKE_RUN")
	}
	switch {
	case o.err != nil:
		return nil, o.err
	case c.urls != "" && c.run != "":
		return nil, errors.New("statequake.connect: url and run contradict each other; give one of them")
	case c.urls == "" && c.run == "":
		return nil, errNoTarget
	}
	t, err := m.s.target(c)
	if err != nil {
		return nil, err
	}
	return &Client{m, t}, nil
}

// pacer returns a pacer.
func (m *module) pacer(options sobek.Value) (*Pacer, error) {
	o, err := m.options("pacer", options, "rate", "duration", "name", "timeout")
	if err != nil {
		return nil, err
	}
	conn, err := m.s.conn()
	if err != nil {
		return nil, err
	}
	c := pacerConfig{timeout: 10 * time.Second}
	if conn != nil {
		c = pacerConfig{rate: conn.Rate, duration: conn.Duration, timeout: conn.Timeout}
	}
	c.duration, c.timeout = o.duration("duration", c.duration), o.duration("timeout", c.timeout)
	if text := o.texts("rate"); text != "" {
		if c.rate, err = loadgen.ParseRate(text); err != nil {
			return nil, fmt.Errorf("statequake.pacer: %w", err)
		}
	}
	name := o.texts("name")
	if name == "" {
		name = "default"
	}
	switch {
	case o.err != nil:
		return nil, o.err
	case c.rate == 0:
		return nil, errors.New("statequake.pacer: rate: missing\nhint: pacer({rate: '1000/s', duration: '30s'}); in a scenario load.arrivals: {constant: 1000/s} is its default")
	case c.duration == 0:
		return nil, errors.New("statequake.pacer: duration: missing\nhint: pacer({rate: '1000/s', duration: '30s'})")
	}
	p, err := m.s.pacer(name, c)
	if err != nil {
		return nil, err
	}
	return &Pacer{m, p}, nil
}

// Pacer is a pacer as a script sees it.
type Pacer struct {
	m *module
	p *pacer
}

// Next waits until the next operation is due and returns its slot, null when there
// is none any more.
func (p *Pacer) Next() (any, error) {
	if p.m.vu.State() == nil {
		return nil, errors.New("pacer.next: nothing is due while the script is initialized")
	}
	ctx := p.m.vu.Context()
	slot := p.p.next(ctx, func() { p.m.measures.expired(ctx, p.m.vu) })
	if slot != nil {
		return slot, nil
	}
	// A user that only asks must not spin until its executor ends.
	select {
	case <-ctx.Done():
	case <-time.After(50 * time.Millisecond):
	}
	return sobek.Null(), nil
}

// Client sends operations for one virtual user.
type Client struct {
	m  *module
	to sender
}

// InvokeSync carries an operation out and returns its result when it is
// complete.
func (c *Client) InvokeSync(entity, key, command string, args, options sobek.Value) (sobek.Value, error) {
	call, slot, err := c.call(entity, key, command, args, options)
	if err != nil {
		return nil, err
	}
	ctx := c.m.vu.Context()
	op, err := c.send(ctx, call)
	if err != nil {
		return nil, err
	}
	c.m.measures.complete(ctx, c.m.vu, &op, slot)
	return c.m.result(&op)
}

// Invoke is InvokeSync with a promise.
func (c *Client) Invoke(entity, key, command string, args, options sobek.Value) (*sobek.Promise, error) {
	call, slot, err := c.call(entity, key, command, args, options)
	if err != nil {
		return nil, err
	}
	ctx := c.m.vu.Context()
	promise, resolve, reject := promises.New(c.m.vu)
	callback := c.m.vu.RegisterCallback()
	go func() {
		op, err := c.send(ctx, call)
		callback(func() error { // on the event loop, where the runtime may be used
			if err != nil {
				reject(err)
				return nil
			}
			c.m.measures.complete(ctx, c.m.vu, &op, slot)
			result, err := c.m.result(&op)
			if err != nil {
				reject(err)
				return nil
			}
			resolve(result)
			return nil
		})
	}()
	return promise, nil
}

// send carries a call out. When the load is over it waits for the end of the
// virtual user, which would only ask again.
func (c *Client) send(ctx context.Context, call script.Call) (history.Op, error) {
	op, err := c.to.Invoke(ctx, call)
	if errors.Is(err, script.ErrOver) {
		<-ctx.Done()
	}
	return op, err
}

// call reads the arguments of an invocation and notes when it was due.
func (c *Client) call(entity, key, command string, args, options sobek.Value) (script.Call, *Slot, error) {
	now := c.m.s.now()
	state := c.m.vu.State()
	if state == nil {
		return script.Call{}, nil, errors.New("client.invoke: nothing is sent while the script is initialized")
	}
	o, err := c.m.options("client.invoke", options, "due")
	if err != nil {
		return script.Call{}, nil, err
	}
	call := script.Call{VU: int(state.VUID), Entity: entity, Key: key, Op: command, Due: now}
	if args != nil && !sobek.IsUndefined(args) && !sobek.IsNull(args) {
		if call.Args, err = args.ToObject(c.m.vu.Runtime()).MarshalJSON(); err != nil {
			return call, nil, fmt.Errorf("client.invoke: args: %w", err)
		}
	}
	if err := call.Check(); err != nil {
		return call, nil, fmt.Errorf("client.invoke: %w", err)
	}
	due, ok := o.values["due"]
	if !ok {
		c.m.s.own.Handed(1)
		return call, nil, nil
	}
	slot, ok := due.Export().(*Slot)
	if !ok {
		return call, nil, errors.New("client.invoke: due: not what pacer.next returned")
	}
	if !slot.p.use(slot) {
		return call, nil, fmt.Errorf("client.invoke: due: operation %d of the pacer was sent already", slot.N)
	}
	call.Due = slot.due
	return call, slot, nil
}

// result is a complete operation as a script sees it.
func (m *module) result(op *history.Op) (sobek.Value, error) {
	rt := m.vu.Runtime()
	o := rt.NewObject()
	set := func(name string, value any) error { return o.Set(name, value) }
	err := errors.Join(set("ok", op.Outcome == history.OK), set("outcome", string(op.Outcome)))
	if len(op.Result) > 0 {
		parsed, parseErr := m.parse(op.Result)
		err = errors.Join(err, parseErr, set("result", parsed))
	}
	if op.Version >= 0 && op.Outcome == history.OK {
		err = errors.Join(err, set("version", op.Version))
	}
	for name, text := range map[string]string{"digest": op.Digest, "node": op.Node, "error": op.Error} {
		if text != "" {
			err = errors.Join(err, set(name, text))
		}
	}
	if op.Outcome != history.Unsent {
		err = errors.Join(err, set("duration", ms(op.Latency())))
	}
	return o, err
}

// parse makes an ordinary value of the script's language.
func (m *module) parse(text json.RawMessage) (sobek.Value, error) {
	rt := m.vu.Runtime()
	parse, ok := sobek.AssertFunction(rt.GlobalObject().Get("JSON").ToObject(rt).Get("parse"))
	if !ok {
		return nil, errors.New("JSON.parse is no function")
	}
	return parse(sobek.Undefined(), rt.ToValue(string(text)))
}

// options are the fields of an options object.
type options struct {
	of     string
	values map[string]sobek.Value
	rt     *sobek.Runtime
	err    error // the first one
}

// options reads an options object, which has these fields only.
func (m *module) options(of string, v sobek.Value, known ...string) (*options, error) {
	o := &options{of: of, values: map[string]sobek.Value{}, rt: m.vu.Runtime()}
	if v == nil || sobek.IsUndefined(v) || sobek.IsNull(v) {
		return o, nil
	}
	object, ok := v.(*sobek.Object)
	if !ok {
		return nil, fmt.Errorf("%s: options: not an object", of)
	}
	for _, name := range object.Keys() {
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("%s: unknown option %q; have %s", of, name, strings.Join(known, ", "))
		}
		if value := object.Get(name); value != nil && !sobek.IsUndefined(value) && !sobek.IsNull(value) {
			o.values[name] = value
		}
	}
	return o, nil
}

func (o *options) refuse(name, problem string) {
	if o.err == nil {
		o.err = fmt.Errorf("%s: %s: %s", o.of, name, problem)
	}
}

// texts is a text, or several joined by commas.
func (o *options) texts(name string) string {
	v, ok := o.values[name]
	if !ok {
		return ""
	}
	switch v := v.Export().(type) {
	case string:
		return v
	case []any:
		var all []string
		for _, part := range v {
			text, ok := part.(string)
			if !ok {
				o.refuse(name, "not a list of texts")
			}
			all = append(all, text)
		}
		return strings.Join(all, ",")
	}
	o.refuse(name, "not a text")
	return ""
}

// duration is a positive duration: a text with a unit, or a number of ms.
func (o *options) duration(name string, def time.Duration) time.Duration {
	v, ok := o.values[name]
	if !ok {
		return def
	}
	d, err := time.ParseDuration(v.String())
	if err != nil {
		d = time.Duration(v.ToFloat() * float64(time.Millisecond))
	}
	if d <= 0 {
		o.refuse(name, fmt.Sprintf("%q is not a duration above 0, as in '30s'", v.String()))
	}
	return d
}

// number is a whole number from 0 up.
func (o *options) number(name string, def int64) int64 {
	v, ok := o.values[name]
	if !ok {
		return def
	}
	n, isInt := v.Export().(int64)
	if !isInt || n < 0 {
		o.refuse(name, fmt.Sprintf("%q is not a whole number from 0 up", v.String()))
	}
	return n
}
