package main

import (
	"context"
	"fmt"
	"sync"

	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
)

const namespace = "default"

// podOf listens; the kubelet asks it once a second whether it does, through its link and address. No scheduler
// runs here: the pod names its node.
func podOf(name, node, programs string) *core.Pod {
	no, grace := false, int64(1)
	probe := core.TCPSocketAction{Port: intstr.FromInt32(port)}
	return &core.Pod{
		ObjectMeta: meta.ObjectMeta{Name: name},
		Spec: core.PodSpec{
			NodeName: node, AutomountServiceAccountToken: &no, EnableServiceLinks: &no,
			TerminationGracePeriodSeconds: &grace,
			Tolerations:                   []core.Toleration{{Operator: core.TolerationOpExists}},
			Volumes: []core.Volume{{Name: "program", VolumeSource: core.VolumeSource{
				HostPath: &core.HostPathVolumeSource{Path: programs},
			}}},
			Containers: []core.Container{{
				Name: "listens", Image: "localhost/ipamd-tests:1", ImagePullPolicy: core.PullNever,
				Command:      []string{"/program/cluster", "listen"},
				VolumeMounts: []core.VolumeMount{{Name: "program", MountPath: "/program", ReadOnly: true}},
				ReadinessProbe: &core.Probe{
					ProbeHandler:  core.ProbeHandler{TCPSocket: &probe},
					PeriodSeconds: 1, TimeoutSeconds: 5, FailureThreshold: 2,
				},
			}},
		},
	}
}

// ready: the server says so, and has made the namespace that pods are in.
func ready(ctx context.Context, client kubernetes.Interface) error {
	if _, err := client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx); err != nil {
		return err
	}
	_, err := client.CoreV1().Namespaces().Get(ctx, namespace, meta.GetOptions{})
	return err
}

func create(ctx context.Context, client kubernetes.Interface, node, programs string, names []string) error {
	for _, name := range names {
		pod := podOf(name, node, programs)
		if _, err := client.CoreV1().Pods(namespace).Create(ctx, pod, meta.CreateOptions{}); err != nil {
			return err
		}
	}
	return nil
}

func remove(ctx context.Context, client kubernetes.Interface, names []string) error {
	for _, name := range names {
		err := client.CoreV1().Pods(namespace).Delete(ctx, name, meta.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	return nil
}

func tellNode(ctx context.Context, client kubernetes.Interface, name string) error {
	node, err := client.CoreV1().Nodes().Get(ctx, name, meta.GetOptions{})
	if apierrors.IsNotFound(err) {
		return tell(map[string]string{"ready": "", "message": "not registered"})
	}
	if err != nil {
		return err
	}
	ready, message := nodeReady(node)
	return tell(map[string]string{"ready": ready, "message": message})
}

func nodeReady(node *core.Node) (string, string) {
	for _, condition := range node.Status.Conditions {
		if condition.Type == core.NodeReady {
			return string(condition.Status), condition.Message
		}
	}
	return "", "no condition"
}

func podReady(pod *core.Pod) (string, string) {
	for _, condition := range pod.Status.Conditions {
		if condition.Type == core.PodReady {
			return string(condition.Status), condition.Message
		}
	}
	return "", "no condition"
}

func tellPods(ctx context.Context, client kubernetes.Interface) error {
	list, err := client.CoreV1().Pods(namespace).List(ctx, meta.ListOptions{})
	if err != nil {
		return err
	}
	pods := []map[string]string{}
	for _, pod := range list.Items {
		ready, message := podReady(&pod)
		pods = append(pods, map[string]string{
			"name": pod.Name, "phase": string(pod.Status.Phase), "ready": ready, "message": message,
			"ip": pod.Status.PodIP, "reason": pod.Status.Reason + " " + pod.Status.Message,
		})
	}
	return tell(pods)
}

// watchReady tells what the API says of nodes and pods, from now on, until it is killed.
func watchReady(ctx context.Context, client kubernetes.Interface) error {
	api := client.CoreV1()
	warnings := meta.ListOptions{FieldSelector: fields.OneTermEqualSelector("type", core.EventTypeWarning).String()}
	watches := []func() (watch.Interface, error){
		func() (watch.Interface, error) { return api.Nodes().Watch(ctx, meta.ListOptions{}) },
		func() (watch.Interface, error) { return api.Pods(namespace).Watch(ctx, meta.ListOptions{}) },
		func() (watch.Interface, error) { return api.Events(namespace).Watch(ctx, warnings) },
	}
	var lock sync.Mutex
	last := map[string]string{}
	// Only changes are told.
	say := func(about, ready, message string) error {
		lock.Lock()
		defer lock.Unlock()
		if before, there := last[about]; there && before == ready {
			return nil
		}
		last[about] = ready
		return tell(map[string]string{"about": about, "ready": ready, "message": message})
	}
	ended := make(chan error)
	for _, start := range watches {
		it, err := start()
		if err != nil {
			return err
		}
		go func() {
			for event := range it.ResultChan() {
				if err := told(event, say); err != nil {
					ended <- err
					return
				}
			}
			ended <- fmt.Errorf("a watch has ended")
		}()
	}
	if err := say("watch", "begun", ""); err != nil {
		return err
	}
	return <-ended
}

func told(event watch.Event, say func(about, ready, message string) error) error {
	gone := event.Type == watch.Deleted
	switch object := event.Object.(type) {
	case *core.Node:
		ready, message := nodeReady(object)
		return say("node "+object.Name, ready, message)
	case *core.Pod:
		ready, message := podReady(object)
		if gone {
			ready = "gone"
		}
		return say("pod "+object.Name, ready, message)
	case *core.Event:
		about := fmt.Sprintf("warning %s %s %d", object.InvolvedObject.Name, object.Reason, object.Count)
		return say(about, "", object.Message)
	}
	return fmt.Errorf("an unknown object: %v", event.Object)
}
