package load

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// drivePortable makes the load with a goroutine for each connection, for systems without epoll.
func drivePortable(ctx context.Context, r *run) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	d := &portableDriver{run: r, check: newChecker(&r.spec)}
	connections := make([]net.Conn, 0, r.spec.Connections)
	defer func() {
		for _, c := range connections {
			_ = c.Close()
		}
	}()
	var dialer net.Dialer
	for range r.spec.Connections {
		c, err := dialer.DialContext(ctx, "tcp", r.spec.Address)
		if err != nil {
			return fmt.Errorf("connecting: %w", err)
		}
		connections = append(connections, c)
	}
	unblock := context.AfterFunc(ctx, func() {
		for _, c := range connections {
			_ = c.SetDeadline(time.Unix(1, 0))
		}
	})
	defer unblock()

	d.begin()
	var all sync.WaitGroup
	for _, c := range connections {
		all.Go(func() {
			if err := d.drive(c); err != nil {
				cancel(err) // the first one counts
			}
		})
	}
	all.Wait()
	return context.Cause(ctx)
}

// portableDriver is a run that several goroutines share.
type portableDriver struct {
	*run
	mu    sync.Mutex
	check checker
}

// drive keeps one connection busy until there is no further request.
func (d *portableDriver) drive(c net.Conn) error {
	request := d.spec.Request.Clone()
	in := make([]byte, 32<<10)
	for {
		number, sent, ok := d.number()
		if !ok {
			return nil
		}
		if err := c.SetDeadline(time.Now().Add(silence)); err != nil {
			return err
		}
		if _, err := c.Write(request.Fill(number)); err != nil {
			return fmt.Errorf("sending a request: %w", err)
		}
		answer, grown, err := receive(c, in)
		if err != nil {
			return err
		}
		in = grown
		if err := d.judge(number, sent, answer); err != nil {
			return err
		}
	}
}

func (d *portableDriver) number() (number uint64, sent int64, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.clock()
	if d.observe(now) {
		return 0, 0, false
	}
	return d.take(), now, true
}

func (d *portableDriver) judge(number uint64, sent int64, answer response) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.clock()
	d.observe(now)
	d.answer(sent, now)
	return d.check.check(number, answer)
}

// receive reads one answer, whose body is a part of the buffer that it returns.
func receive(c net.Conn, in []byte) (response, []byte, error) {
	have := 0
	for {
		if have == len(in) {
			in = append(in, make([]byte, len(in))...)
		}
		n, err := c.Read(in[have:])
		if err != nil {
			return response{}, in, fmt.Errorf("reading an answer: %w", err)
		}
		have += n
		answer, err := parse(in[:have])
		switch {
		case errors.Is(err, errIncomplete):
			continue
		case err != nil:
			return response{}, in, err
		case answer.size != have:
			return response{}, in, fmt.Errorf("%d bytes follow an answer, and nothing was asked", have-answer.size)
		}
		return answer, in, nil
	}
}
