package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const socket = "/run/containerd/containerd.sock"

// Below the path in this variable are the cgroups of all containers: the test, which removes them, sets it.
const cgroup = "CGROUP"

type runtimeService struct {
	cri.RuntimeServiceClient
}

func dial() (*runtimeService, error) {
	connection, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	return &runtimeService{cri.NewRuntimeServiceClient(connection)}, nil
}

// status tells the condition by which the kubelet makes a node ready.
func (r *runtimeService) status(ctx context.Context) error {
	reply, err := r.Status(ctx, &cri.StatusRequest{})
	if err != nil {
		return err
	}
	for _, condition := range reply.Status.Conditions {
		if condition.Type == cri.NetworkReady {
			return tell(map[string]any{"network": condition.Status, "message": condition.Message})
		}
	}
	return fmt.Errorf("no condition %s", cri.NetworkReady)
}

// sandbox is a pod's as the kubelet asks for it.
func sandbox(name, uid string, attempt uint32) *cri.PodSandboxConfig {
	return &cri.PodSandboxConfig{
		Metadata:     &cri.PodSandboxMetadata{Name: name, Uid: uid, Namespace: "default", Attempt: attempt},
		Hostname:     name,
		LogDirectory: "/var/lib/logs/" + uid,
		Linux: &cri.LinuxPodSandboxConfig{
			CgroupParent:    os.Getenv(cgroup) + "/" + uid,
			SecurityContext: &cri.LinuxSandboxSecurityContext{NamespaceOptions: &cri.NamespaceOption{}},
		},
	}
}

func (r *runtimeService) runPod(ctx context.Context, config *cri.PodSandboxConfig) (string, error) {
	reply, err := r.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: config})
	if err != nil {
		return "", err
	}
	return reply.PodSandboxId, nil
}

// look tells what a sandbox is, with the namespace that only the runtime's own words name.
func (r *runtimeService) look(ctx context.Context, id string) error {
	reply, err := r.PodSandboxStatus(ctx, &cri.PodSandboxStatusRequest{PodSandboxId: id, Verbose: true})
	if err != nil {
		return err
	}
	var info struct {
		Pid         int `json:"pid"`
		RuntimeSpec struct {
			Linux struct {
				Namespaces []struct{ Type, Path string }
			}
		} `json:"runtimeSpec"`
	}
	if err := json.Unmarshal([]byte(reply.Info["info"]), &info); err != nil {
		return err
	}
	netns := ""
	for _, space := range info.RuntimeSpec.Linux.Namespaces {
		if space.Type == "network" {
			netns = space.Path
		}
	}
	return tell(map[string]any{
		"ready": reply.Status.State == cri.PodSandboxState_SANDBOX_READY,
		"ip":    reply.Status.GetNetwork().GetIp(), "netns": netns, "pid": info.Pid,
	})
}

func (r *runtimeService) list(ctx context.Context) error {
	reply, err := r.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{})
	if err != nil {
		return err
	}
	ids := []string{}
	for _, item := range reply.Items {
		ids = append(ids, item.Id)
	}
	return tell(ids)
}

func (r *runtimeService) stopPod(ctx context.Context, id string) error {
	_, err := r.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: id})
	return err
}

func (r *runtimeService) removePod(ctx context.Context, id string) error {
	_, err := r.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: id})
	return err
}
