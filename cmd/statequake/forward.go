package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"

	"statequake/fixtures"
	"statequake/fixtures/sandbox"
)

// outsideListeners listen, outside of the sandbox, at the ports that the nodes
// have inside.
func outsideListeners(dir string, nodes int) ([]*os.File, error) {
	ports, err := fixtures.Ports(filepath.Join(dir, "data", "ports.json"), nodes, 2)
	if err != nil {
		return nil, err
	}
	var files []*os.File
	for i := range nodes {
		l, err := net.Listen("tcp", fmt.Sprintf("%s:%d", fixtures.Loopback, ports[2*i]))
		if err == nil {
			var file *os.File
			file, err = l.(*net.TCPListener).File()
			l.Close() // file goes on listening
			files = append(files, file)
		}
		if err != nil {
			for _, f := range files {
				f.Close()
			}
			return nil, fmt.Errorf("listen for n%d: %w", i+1, err)
		}
	}
	return files, nil
}

// fromOutside are the listeners that outsideListeners has opened.
func fromOutside() ([]net.Listener, error) {
	var listeners []net.Listener
	for _, f := range sandbox.Files() {
		l, err := net.FileListener(f)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("listen outside: %w", err)
		}
		listeners = append(listeners, l)
	}
	return listeners, nil
}

// forward hands what connects to l to the node at addr, until ctx ends. Who
// connects while the node is down is refused by a reset.
func forward(ctx context.Context, l net.Listener, addr string) {
	context.AfterFunc(ctx, func() { l.Close() })
	for {
		conn, err := l.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			continue // the client went away
		}
		go func() {
			client := conn.(*net.TCPConn)
			defer client.Close()
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
			if err != nil {
				client.SetLinger(0)
				return
			}
			node := conn.(*net.TCPConn)
			defer node.Close()
			defer context.AfterFunc(ctx, func() { client.Close(); node.Close() })()
			var both sync.WaitGroup
			both.Go(func() { io.Copy(node, client); node.CloseWrite() })
			both.Go(func() { io.Copy(client, node); client.CloseWrite() })
			both.Wait()
		}()
	}
}
