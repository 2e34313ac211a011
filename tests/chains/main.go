// A container runtime as far as CNI goes: one libcni call, as the arguments say.
//
//	driver VERB CONFLIST [CONTAINER NETNS IFNAME]
//
// VERB is add, check, del, status or gc. CNI_PATH says where plugins are, CNI_ARGS and CAP_ARGS (JSON)
// what runtimes pass on, VALID (JSON, a list of {containerID, ifname}) what a GC names; CACHE is libcni's
// own directory. add prints the result; an error goes to standard error and is exit code 1.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		var cni *types.Error
		if errors.As(err, &cni) {
			fmt.Fprintf(os.Stderr, "code %d: %v\n", cni.Code, err)
		} else {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 2 && len(args) != 5 {
		return fmt.Errorf("usage: driver VERB CONFLIST [CONTAINER NETNS IFNAME]")
	}
	list, err := libcni.ConfListFromFile(args[1])
	if err != nil {
		return err
	}
	path := filepath.SplitList(os.Getenv("CNI_PATH"))
	cni := libcni.NewCNIConfigWithCacheDir(path, os.Getenv("CACHE"), nil)
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	switch args[0] {
	case "status":
		return cni.GetStatusNetworkList(ctx, list)
	case "gc":
		var valid []types.GCAttachment
		if err := given("VALID", &valid); err != nil {
			return err
		}
		return cni.GCNetworkList(ctx, list, &libcni.GCArgs{ValidAttachments: valid})
	}
	if len(args) != 5 {
		return fmt.Errorf("%s needs CONTAINER NETNS IFNAME", args[0])
	}
	rt := &libcni.RuntimeConf{ContainerID: args[2], NetNS: args[3], IfName: args[4]}
	for _, pair := range strings.Split(os.Getenv("CNI_ARGS"), ";") {
		if key, value, ok := strings.Cut(pair, "="); ok {
			rt.Args = append(rt.Args, [2]string{key, value})
		}
	}
	if err := given("CAP_ARGS", &rt.CapabilityArgs); err != nil {
		return err
	}
	switch args[0] {
	case "add":
		result, err := cni.AddNetworkList(ctx, list, rt)
		if err != nil {
			return err
		}
		return result.Print()
	case "check":
		return cni.CheckNetworkList(ctx, list, rt)
	case "del":
		return cni.DelNetworkList(ctx, list, rt)
	}
	return fmt.Errorf("unknown verb %s", args[0])
}

// given reads a variable's JSON; one that is not set leaves the value as it is.
func given(name string, value any) error {
	text := os.Getenv(name)
	if text == "" {
		return nil
	}
	if err := json.Unmarshal([]byte(text), value); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}
