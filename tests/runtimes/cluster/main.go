// A control plane's small parts: its files, the pods that tests ask for, and what the API says of them.
//
//	cluster files DIR NODE CGROUP               keys, tokens and settings of kube-apiserver and kubelet
//	cluster ready                               whether pods can be asked for
//	cluster node NAME                           {"ready": "True"|"False"|"Unknown"|"", "message": ...}
//	cluster create NODE PROGRAMS NAME...        pods that listen, ready once they are reached
//	cluster delete NAME...                      pods
//	cluster pods                                [{"name": ..., "phase": ..., "ready": ..., "ip": ...}, ...]
//	cluster watch                               a line for each change of a Ready condition, and each warning
//	cluster listen                              what a pod runs
//
// All but the first and the last ask the API server on this node.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

const (
	apiServer  = "https://127.0.0.1:6443"
	adminToken = "admin-of-this-test"
	nodeToken  = "node-of-this-test"
	// Where pods listen.
	port = 8080
	// One question to the API server.
	limit = 30 * time.Second
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	verb := func(name string, least int) bool {
		return len(args) > least && args[0] == name
	}
	if verb("listen", 0) {
		return listen()
	}
	if verb("files", 3) {
		return writeFiles(args[1], args[2], args[3])
	}
	client, err := dial()
	if err != nil {
		return err
	}
	if verb("watch", 0) {
		return watchReady(context.Background(), client)
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	switch {
	case verb("ready", 0):
		return ready(ctx, client)
	case verb("node", 1):
		return tellNode(ctx, client, args[1])
	case verb("create", 3):
		return create(ctx, client, args[1], args[2], args[3:])
	case verb("delete", 1):
		return remove(ctx, client, args[1:])
	case verb("pods", 0):
		return tellPods(ctx, client)
	}
	return fmt.Errorf("wrong arguments: %v", args)
}

// dial trusts whoever answers there: the server makes its certificate itself, and nobody else is on the node.
func dial() (*kubernetes.Clientset, error) {
	return kubernetes.NewForConfig(&rest.Config{
		Host: apiServer, BearerToken: adminToken, QPS: 200, Burst: 200,
		TLSClientConfig: rest.TLSClientConfig{Insecure: true},
	})
}

// listen takes connections and ends them.
func listen() error {
	listener, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
	if err != nil {
		return err
	}
	for {
		connection, err := listener.Accept()
		if err != nil {
			return err
		}
		_ = connection.Close()
	}
}

// tell prints an answer for the test.
func tell(value any) error {
	return json.NewEncoder(os.Stdout).Encode(value)
}
