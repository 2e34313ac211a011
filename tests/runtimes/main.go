// What the tests need of a node besides our own programs: containerd, started so that nothing of it
// outlives the test, and the kubelet's part of CRI.
//
//	runtimes node CONFIG CONTAINERD   containerd with a process namespace and mounts of its own
//	runtimes import PAUSE             the image of sandboxes, from this static program
//	runtimes status                   {"network": bool, "message": ...}: the condition NetworkReady
//	runtimes run NAME UID ATTEMPT     a sandbox; prints its id
//	runtimes look ID                  {"ready": bool, "ip": ..., "netns": ..., "pid": ...}
//	runtimes list                     the ids of all sandboxes
//	runtimes stop ID, remove ID       a sandbox
//	runtimes pod MANIFEST PLACES      the DaemonSet's pod as its manifest says, until SIGTERM
//	runtimes chained                  a CNI plugin behind another one; fails an ADD if FAIL is set
//
// All talk to /run/containerd/containerd.sock.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"time"
)

// A sandbox waits for its address as long as the plugin's ADD does, and then some.
const limit = 100 * time.Second

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	verb := func(name string, count int) bool {
		return len(args) == count+1 && args[0] == name
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	switch {
	case verb("node", 2):
		return node(args[1], args[2])
	case verb("first", 2):
		return first(args[1], args[2])
	case verb("chained", 0):
		return chained(os.Stdin)
	case verb("import", 1):
		return importImage(ctx, args[1])
	case verb("pod", 2):
		return pod(args[1], args[2])
	}
	cri, err := dial()
	if err != nil {
		return err
	}
	switch {
	case verb("status", 0):
		return cri.status(ctx)
	case verb("run", 3):
		attempt, err := strconv.ParseUint(args[3], 10, 32)
		if err != nil {
			return err
		}
		id, err := cri.runPod(ctx, sandbox(args[1], args[2], uint32(attempt)))
		if err != nil {
			return err
		}
		return tell(id)
	case verb("look", 1):
		return cri.look(ctx, args[1])
	case verb("list", 0):
		return cri.list(ctx)
	case verb("stop", 1):
		return cri.stopPod(ctx, args[1])
	case verb("remove", 1):
		return cri.removePod(ctx, args[1])
	}
	return fmt.Errorf("wrong arguments: %v", args)
}

// tell prints an answer for the test.
func tell(value any) error {
	return json.NewEncoder(os.Stdout).Encode(value)
}
