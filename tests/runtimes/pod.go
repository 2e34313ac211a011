package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"sigs.k8s.io/yaml"
)

// places is what differs from a real node.
type places struct {
	// Paths on the node, by what the manifest's hostPath is.
	Host map[string]string
	// What the image has, each from the same or another path on the node, for reading only.
	Image map[string]string
	// What is run instead of a manifest's program; the image's own is the empty name.
	Program map[string][]string
	// A file to be merged into the manifest, as `kubectl patch` does; empty: none.
	Patch string
}

// What of our own environment is not for containers. The rest goes before what the manifest says.
var own = map[string]bool{"PATH": true, cgroup: true, "PWD": true}

// What the kubelet tells of every container that is not privileged, by default.
var (
	masked = []string{"/proc/asound", "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
		"/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware"}
	readOnly = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
)

// pod does with the DaemonSet's pod what the kubelet does: a sandbox, the containers that come first, each to
// its end, then the last one. It ends with that one, and takes all away; SIGTERM ends it in order.
func pod(manifest, placesFile string) error {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGTERM)
	var at places
	text, err := os.ReadFile(placesFile)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, &at); err != nil {
		return err
	}
	set, err := daemonSet(manifest, at.Patch)
	if err != nil {
		return err
	}
	runtime, err := dial()
	if err != nil {
		return err
	}
	ctx := context.Background()
	spec := &set.Spec.Template.Spec
	config := sandbox(set.Name, fmt.Sprintf("%s-%d", set.Name, time.Now().UnixNano()), 0)
	config.Linux.SecurityContext.NamespaceOptions = namespaces(spec)
	if spec.HostNetwork {
		// The namespace of names is the host's, too.
		config.Hostname = ""
	}
	id, err := runtime.runPod(ctx, config)
	if err != nil {
		return err
	}
	defer func() {
		_ = runtime.stopPod(ctx, id)
		_ = runtime.removePod(ctx, id)
	}()
	for _, container := range spec.InitContainers {
		code, err := runtime.container(ctx, id, config, spec, container, at, nil)
		if err != nil || code != 0 {
			return errors.Join(fmt.Errorf("%s: exit code %d", container.Name, code), err)
		}
	}
	if len(spec.Containers) != 1 {
		return fmt.Errorf("%d containers", len(spec.Containers))
	}
	code, err := runtime.container(ctx, id, config, spec, spec.Containers[0], at, asked)
	if err == nil && code != 0 {
		err = fmt.Errorf("exit code %d", code)
	}
	return err
}

// daemonSet reads the manifest with Kubernetes' own types; what they don't know is an error.
func daemonSet(file, patch string) (*apps.DaemonSet, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	for _, document := range strings.Split(string(text), "\n---\n") {
		var kind struct{ Kind string }
		if err := yaml.Unmarshal([]byte(document), &kind); err != nil {
			return nil, err
		}
		if kind.Kind != "DaemonSet" {
			continue
		}
		whole, err := patched([]byte(document), patch)
		if err != nil {
			return nil, err
		}
		set := new(apps.DaemonSet)
		return set, yaml.UnmarshalStrict(whole, set)
	}
	return nil, fmt.Errorf("%s: no DaemonSet", file)
}

// patched is a document with a file's strategic merge patch, as `kubectl patch --patch-file` makes it.
func patched(document []byte, file string) ([]byte, error) {
	if file == "" {
		return document, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	whole, err := yaml.YAMLToJSON(document)
	if err != nil {
		return nil, err
	}
	change, err := yaml.YAMLToJSON(text)
	if err != nil {
		return nil, err
	}
	return strategicpatch.StrategicMergePatch(whole, change, apps.DaemonSet{})
}

func namespaces(spec *core.PodSpec) *cri.NamespaceOption {
	option := &cri.NamespaceOption{}
	if spec.HostNetwork {
		option.Network = cri.NamespaceMode_NODE
	}
	if spec.HostPID {
		option.Pid = cri.NamespaceMode_NODE
	}
	if spec.HostIPC {
		option.Ipc = cri.NamespaceMode_NODE
	}
	return option
}

// container runs one to its end and tells its exit code. Its words go to standard output.
func (r *runtimeService) container(ctx context.Context, pod string, sandbox *cri.PodSandboxConfig,
	spec *core.PodSpec, container core.Container, at places, asked <-chan os.Signal) (int32, error) {
	log := container.Name + ".log"
	config := &cri.ContainerConfig{
		Metadata: &cri.ContainerMetadata{Name: container.Name},
		Image:    &cri.ImageSpec{Image: image},
		LogPath:  log,
		Command:  command(container, at),
		Mounts:   mountsOf(spec, container, at),
		Linux:    &cri.LinuxContainerConfig{SecurityContext: security(spec, container)},
	}
	for _, variable := range container.Env {
		config.Envs = append(config.Envs, &cri.KeyValue{Key: variable.Name, Value: []byte(variable.Value)})
	}
	// The last one counts.
	for _, variable := range os.Environ() {
		if name, value, _ := strings.Cut(variable, "="); !own[name] {
			config.Envs = append(config.Envs, &cri.KeyValue{Key: name, Value: []byte(value)})
		}
	}
	made, err := r.CreateContainer(ctx, &cri.CreateContainerRequest{PodSandboxId: pod, Config: config, SandboxConfig: sandbox})
	if err != nil {
		return 0, err
	}
	id := made.ContainerId
	words := newWords(filepath.Join(sandbox.LogDirectory, log))
	defer words.copy()
	if _, err := r.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: id}); err != nil {
		return 0, err
	}
	for {
		status, err := r.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: id})
		if err != nil {
			return 0, err
		}
		if status.Status.State == cri.ContainerState_CONTAINER_EXITED {
			return status.Status.ExitCode, nil
		}
		words.copy()
		select {
		case <-asked:
			if _, err := r.StopContainer(ctx, &cri.StopContainerRequest{ContainerId: id, Timeout: 10}); err != nil {
				return 0, err
			}
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func command(container core.Container, at places) []string {
	name, rest := "", []string{}
	if len(container.Command) > 0 {
		name, rest = container.Command[0], container.Command[1:]
	}
	program, ok := at.Program[name]
	if !ok {
		program = []string{name}
	}
	return slices.Concat(program, rest, container.Args)
}

// security is what the kubelet makes of the two security contexts (pkg/kubelet/kuberuntime).
func security(spec *core.PodSpec, container core.Container) *cri.LinuxContainerSecurityContext {
	context := &cri.LinuxContainerSecurityContext{
		NamespaceOptions: namespaces(spec), MaskedPaths: masked, ReadonlyPaths: readOnly,
		Seccomp: seccomp(spec.SecurityContext),
	}
	asked := container.SecurityContext
	if asked == nil {
		return context
	}
	if asked.Privileged != nil && *asked.Privileged {
		context.Privileged, context.MaskedPaths, context.ReadonlyPaths = true, nil, nil
	}
	if asked.ReadOnlyRootFilesystem != nil {
		context.ReadonlyRootfs = *asked.ReadOnlyRootFilesystem
	}
	if asked.AllowPrivilegeEscalation != nil {
		context.NoNewPrivs = !*asked.AllowPrivilegeEscalation
	}
	if asked.RunAsUser != nil {
		context.RunAsUser = &cri.Int64Value{Value: *asked.RunAsUser}
	}
	if asked.Capabilities != nil {
		capabilities := &cri.Capability{}
		for _, name := range asked.Capabilities.Add {
			capabilities.AddCapabilities = append(capabilities.AddCapabilities, string(name))
		}
		for _, name := range asked.Capabilities.Drop {
			capabilities.DropCapabilities = append(capabilities.DropCapabilities, string(name))
		}
		context.Capabilities = capabilities
	}
	return context
}

// seccomp: without a word of the manifest, the kubelet leaves containers unconfined.
func seccomp(context *core.PodSecurityContext) *cri.SecurityProfile {
	profile := &cri.SecurityProfile{ProfileType: cri.SecurityProfile_Unconfined}
	if context != nil && context.SeccompProfile != nil && context.SeccompProfile.Type == core.SeccompProfileTypeRuntimeDefault {
		profile.ProfileType = cri.SecurityProfile_RuntimeDefault
	}
	return profile
}

func mountsOf(spec *core.PodSpec, container core.Container, at places) []*cri.Mount {
	var mounts []*cri.Mount
	for _, wanted := range container.VolumeMounts {
		for _, volume := range spec.Volumes {
			if volume.Name != wanted.Name || volume.HostPath == nil {
				continue
			}
			path := volume.HostPath.Path
			if moved, ok := at.Host[path]; ok {
				path = moved
			}
			if kind := volume.HostPath.Type; kind != nil && *kind == core.HostPathDirectoryOrCreate {
				// If it fails, the container says what is missing.
				_ = os.MkdirAll(path, 0o755)
			}
			mounts = append(mounts, &cri.Mount{HostPath: path, ContainerPath: wanted.MountPath, Readonly: wanted.ReadOnly})
		}
	}
	for inside, path := range at.Image {
		mounts = append(mounts, &cri.Mount{HostPath: path, ContainerPath: inside, Readonly: true})
	}
	return mounts
}

// words are a container's log, which containerd writes line by line: "TIME STREAM TAG TEXT".
type words struct {
	file   string
	copied int
}

func newWords(file string) *words { return &words{file: file} }

func (w *words) copy() {
	text, err := os.ReadFile(w.file)
	if err != nil {
		return
	}
	end := strings.LastIndexByte(string(text), '\n') + 1
	for _, line := range strings.SplitAfter(string(text[min(w.copied, end):end]), "\n") {
		if fields := strings.SplitN(line, " ", 4); len(fields) == 4 {
			fmt.Print(fields[3])
		}
	}
	w.copied = end
}
