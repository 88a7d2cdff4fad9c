package load

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// driveEpoll makes the load with one thread that waits for all connections at once, as wrk does: goroutines and the
// runtime's own poller would take several times the processor time per request, from the server that is measured.
func driveEpoll(ctx context.Context, r *run) (err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	address, err := netip.ParseAddrPort(r.spec.Address)
	if err != nil {
		return err
	}
	d := &epollDriver{run: r, check: newChecker(&r.spec), open: r.spec.Connections}
	if d.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	defer func() { err = errors.Join(err, d.close()) }()
	d.connections = make([]connection, r.spec.Connections)
	for i := range d.connections {
		c := &d.connections[i]
		if c.fd, err = dial(address); err != nil {
			c.fd = -1
			d.connections = d.connections[:i]
			return fmt.Errorf("connecting: %w", err)
		}
		c.request, c.in = r.spec.Request.Clone(), make([]byte, 32<<10)
		event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(i)}
		if err := unix.EpollCtl(d.epoll, unix.EPOLL_CTL_ADD, c.fd, &event); err != nil {
			return fmt.Errorf("epoll: %w", err)
		}
	}
	return d.loop(ctx)
}

type epollDriver struct {
	*run
	epoll       int
	connections []connection
	check       checker
	open        int // connections with a request under way, or about to have one
}

// connection has one request under way.
type connection struct {
	fd      int
	request Template
	number  uint64
	sent    int64
	in      []byte // in[:have] was read
	have    int
}

func dial(address netip.AddrPort) (int, error) {
	family, target := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Port: int(address.Port()), Addr: address.Addr().As16()})
	if address.Addr().Is4() {
		family, target = unix.AF_INET, &unix.SockaddrInet4{Port: int(address.Port()), Addr: address.Addr().As4()}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	err = errors.Join(unix.Connect(fd, target), unix.SetNonblock(fd, true),
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1))
	if err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

func (d *epollDriver) close() error {
	var errs []error
	for i := range d.connections {
		errs = append(errs, unix.Close(d.connections[i].fd))
	}
	return errors.Join(append(errs, unix.Close(d.epoll))...)
}

func (d *epollDriver) loop(ctx context.Context) error {
	d.begin()
	for i := range d.connections {
		if err := d.send(&d.connections[i], d.clock()); err != nil {
			return err
		}
	}
	events := make([]unix.EpollEvent, 256)
	heard := d.clock()
	for d.open > 0 {
		n, err := unix.EpollWait(d.epoll, events, 100)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("epoll: %w", err)
		}
		if n <= 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
			now := d.clock()
			d.observe(now)
			if now-heard > int64(silence) {
				return errors.New("the server doesn't answer")
			}
			continue
		}
		for _, e := range events[:n] {
			if heard, err = d.serve(&d.connections[e.Fd]); err != nil {
				return err
			}
		}
		if d.answered%1024 < uint64(n) {
			if err := ctx.Err(); err != nil {
				return err
			}
		}
	}
	return nil
}

// send sends the next request, or retires the connection if there is none.
func (d *epollDriver) send(c *connection, now int64) error {
	if d.observe(now) {
		d.open--
		return nil
	}
	c.number, c.sent = d.take(), now
	out := c.request.Fill(c.number)
	for len(out) > 0 {
		n, err := unix.Write(c.fd, out)
		switch {
		case errors.Is(err, unix.EAGAIN): // the server doesn't read; there is nothing else to do for this connection
			if _, err := unix.Poll([]unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLOUT}}, 1000); err != nil && !errors.Is(err, unix.EINTR) {
				return fmt.Errorf("waiting to send: %w", err)
			}
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("sending a request: %w", err)
		default:
			out = out[n:]
		}
	}
	return nil
}

// serve reads what came and, if that completes the answer, sends the next request. It gives the time.
func (d *epollDriver) serve(c *connection) (int64, error) {
	if c.have == len(c.in) {
		c.in = append(c.in, make([]byte, len(c.in))...)
	}
	n, err := unix.Read(c.fd, c.in[c.have:])
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return d.clock(), nil
	case err != nil:
		return 0, fmt.Errorf("reading an answer: %w", err)
	case n == 0:
		return 0, errors.New("the server closed a connection")
	}
	c.have += n
	answer, err := parse(c.in[:c.have])
	now := d.clock()
	if errors.Is(err, errIncomplete) {
		return now, nil
	}
	if err != nil {
		return 0, err
	}
	if answer.size != c.have {
		return 0, fmt.Errorf("%d bytes follow an answer, and nothing was asked", c.have-answer.size)
	}
	d.answer(c.sent, now)
	if err := d.check.check(c.number, answer); err != nil {
		return 0, err
	}
	c.have = 0
	return now, d.send(c, now)
}

// processorTime is what this process has used so far.
func processorTime() time.Duration {
	var usage unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
