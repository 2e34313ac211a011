// A stand-in for Cilium's plugin in chaining mode `generic-veth`, which can't be had without its agent. It keeps
// to what that one does with its input: without a prevResult it fails; the pod's end of the veth is the
// interface of prevResult that is in the container; the host's end is that one's peer; the answer is
// prevResult as it came.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"
	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/vishvananda/netlink"
)

func main() {
	skel.PluginMainFuncs(skel.CNIFuncs{Add: add, Del: func(*skel.CmdArgs) error { return nil }, Check: check}, version.All, "stand-in for cilium-cni")
}

func add(args *skel.CmdArgs) error {
	conf, err := chained(args)
	if err != nil {
		return err
	}
	return types.PrintResult(conf.PrevResult, conf.CNIVersion)
}

func check(args *skel.CmdArgs) error {
	_, err := chained(args)
	return err
}

func chained(args *skel.CmdArgs) (*types.NetConf, error) {
	conf := new(types.NetConf)
	if err := json.Unmarshal(args.StdinData, conf); err != nil {
		return nil, err
	}
	if err := version.ParsePrevResult(conf); err != nil {
		return nil, err
	}
	if conf.PrevResult == nil {
		return nil, fmt.Errorf("must be called with prevResult")
	}
	prev, err := current.NewResultFromResult(conf.PrevResult)
	if err != nil {
		return nil, err
	}
	for _, link := range prev.Interfaces {
		if link.Sandbox == args.Netns && link.Name == args.IfName {
			return conf, host(args, link, prev)
		}
	}
	return nil, fmt.Errorf("no interface of %s in %s", args.Netns, os.Getenv("CNI_IFNAME"))
}

// host finds the host's end of the pod's veth, which prevResult must name too.
func host(args *skel.CmdArgs, inside *current.Interface, prev *current.Result) error {
	peer := 0
	err := ns.WithNetNSPath(args.Netns, func(ns.NetNS) error {
		link, err := netlink.LinkByName(inside.Name)
		if err != nil {
			return err
		}
		if mac := link.Attrs().HardwareAddr.String(); mac != inside.Mac {
			return fmt.Errorf("%s has the address %s, not %s", inside.Name, mac, inside.Mac)
		}
		peer, err = netlink.VethPeerIndex(&netlink.Veth{LinkAttrs: *link.Attrs()})
		return err
	})
	if err != nil {
		return err
	}
	link, err := netlink.LinkByIndex(peer)
	if err != nil {
		return err
	}
	for _, other := range prev.Interfaces {
		if other.Sandbox == "" && other.Name == link.Attrs().Name && other.Mac == link.Attrs().HardwareAddr.String() {
			return nil
		}
	}
	return fmt.Errorf("prevResult does not name %s", link.Attrs().Name)
}
