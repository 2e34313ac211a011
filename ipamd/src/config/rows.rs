//! The rows of the table of settings.

use super::table::Kind::{Bool, Number, OneOf, Text};
use super::table::Status::{NoEffect, RefuseUnless, WarnUnless, Works};
use super::table::{Kind, Knob, Status};

const fn knob(
    name: &'static str,
    default: &'static str,
    kind: Kind,
    status: Status,
    meaning: &'static str,
) -> Knob {
    Knob {
        name,
        default,
        kind,
        status,
        meaning,
    }
}

const LOG_PATH: Kind = Text("a path");

/// Settings that Amazon's VPC CNI has too.
#[rustfmt::skip]
pub(super) const PEER: &[Knob] = &[
    // Address modes
    knob("ENABLE_IPv4", "true", Bool, Works, "Pods get IPv4 addresses."),
    knob("ENABLE_IPv6", "false", Bool, Works, "Pods get IPv6 addresses, of a /80 prefix on the primary ENI; needs Nitro and a subnet with IPv6. With `ENABLE_IPv4` too, a pod has one of each. Without, no ENI is made and the warm targets have no effect."),
    knob("ENABLE_PREFIX_DELEGATION", "false", Bool, Works, "Take /28 prefixes instead of single addresses. On instance types without prefixes, single addresses are taken."),
    knob("ENABLE_SUBNET_DISCOVERY", "true", Bool, Works, "New ENIs may go to any subnet of the zone tagged `kubernetes.io/role/cni`; the value 0 excludes a subnet. Tags `cni.networking.k8s.aws/cluster/NAME` keep it for clusters of these names. Otherwise they go to the primary ENI's subnet."),
    knob("MANAGE_UNTAGGED_ENI", "true", Bool, Works, "Use ENIs that lack the tag `node.k8s.amazonaws.com/instance_id` of this node."),
    // Warm pool
    knob("WARM_ENI_TARGET", "1", Number("ENIs, 0 or more"), Works, "Whole ENIs' worth of free addresses. Not used with an IP target, nor with prefixes."),
    knob("WARM_IP_TARGET", "", Number("addresses; 0 is none"), Works, "Free addresses to keep; overrides the other warm targets."),
    knob("MINIMUM_IP_TARGET", "", Number("addresses; 0 is none"), Works, "Addresses to have in all."),
    knob("WARM_PREFIX_TARGET", "1", Number("prefixes, 0 or more"), Works, "Free prefixes to keep, with prefix delegation and no IP target."),
    knob("MAX_ENI", "", Number("ENIs, 1 or more"), Works, "Never more ENIs than this, nor than the instance takes."),
    knob("IP_COOLDOWN_PERIOD", "30", Number("seconds, 0 or more"), Works, "How long a released address rests before it is given again."),
    // Custom networking
    knob("AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG", "false", Bool, RefuseUnless("false"), "Subnet and security groups of new ENIs come from an `ENIConfig`."),
    knob("ENI_CONFIG_ANNOTATION_DEF", "k8s.amazonaws.com/eniConfig", Text("an annotation"), NoEffect, "Custom networking only."),
    knob("ENI_CONFIG_LABEL_DEF", "k8s.amazonaws.com/eniConfig", Text("a label"), NoEffect, "Custom networking only."),
    // SNAT and datapath
    knob("AWS_VPC_K8S_CNI_EXTERNALSNAT", "false", Bool, Works, "Somebody else translates what leaves the VPC: pods keep their addresses."),
    knob("AWS_VPC_K8S_CNI_RANDOMIZESNAT", "prng", OneOf("`prng`, `hashrandom` or `none`"), Works, "How source ports are chosen."),
    knob("AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS", "", Text("IPv4 CIDRs, commas between"), Works, "Destinations outside the VPC that see the pod's own address."),
    knob("AWS_EXTERNAL_SERVICE_CIDRS", "", Text("IPv4 CIDRs, commas between"), Works, "Destinations that are always looked up in the main table, whichever ENI the pod is on."),
    knob("AWS_VPC_CNI_NODE_PORT_SUPPORT", "true", Bool, Works, "Answers to what came to the node's own address leave by the primary ENI."),
    knob("AWS_VPC_K8S_CNI_CONNMARK", "0x80", Number("a mark without bits of 0xff00"), Works, "The mark of traffic that leaves by the primary ENI."),
    knob("AWS_VPC_K8S_CNI_VETHPREFIX", "eni", Text("1 to 4 characters; not `eth`, `vlan`, `lo`"), Works, "How the host's ends of pods' links begin."),
    knob("AWS_VPC_ENI_MTU", "9001", Number("bytes, 576 (IPv6: 1280) to 9001"), Works, "MTU of ENIs."),
    knob("POD_MTU", "", Number("bytes, 576 (IPv6: 1280) to 9001"), Works, "MTU of pods' links; as `AWS_VPC_ENI_MTU` if not set."),
    knob("DISABLE_POD_V6", "false", Bool, Works, "Switch IPv6 off inside pods: chains the `tuning` plugin in the network configuration."),
    knob("ENABLE_BANDWIDTH_PLUGIN", "false", Bool, Works, "Heed bandwidth annotations: chains the `bandwidth` plugin in the network configuration."),
    knob("ENABLE_NFTABLES", "", Bool, NoEffect, "Deprecated in Amazon's CNI; `ipamd` always uses nftables."),
    knob("AWS_VPC_K8S_CNI_CONFIGURE_RPFILTER", "", Bool, NoEffect, "Deprecated in Amazon's CNI; `ipamd` sets `rp_filter` to loose on ENIs."),
    knob("CLUSTER_ENDPOINT", "", Text("an `https` address"), Works, "The API server, for events; `KUBERNETES_SERVICE_HOST` if not set."),
    // ENIs
    knob("ADDITIONAL_ENI_TAGS", "{}", Text("a JSON object of strings"), Works, "More tags for new ENIs. Keys with `k8s.amazonaws.com` are dropped."),
    knob("CLUSTER_NAME", "", Text("a name"), Works, "Tags new ENIs with the cluster's name."),
    knob("AWS_MANAGE_ENIS_NON_SCHEDULABLE", "false", Bool, WarnUnless("true"), "Manage ENIs while the node is cordoned. `ipamd` does not see cordons."),
    knob("DISABLE_NETWORK_RESOURCE_PROVISIONING", "false", Bool, Works, "Write nothing to EC2: use the ENIs and addresses that are there."),
    knob("ENABLE_IMDS_ONLY_MODE", "false", Bool, RefuseUnless("false"), "Ask EC2 nothing at all."),
    knob("DISABLE_LEAKED_ENI_CLEANUP", "false", Bool, Works, "Do not look for ENIs that dead nodes left unattached. Where it is `false`, they are deleted within ten minutes, within the cluster named by `CLUSTER_NAME` (without it only this instance's own)."),
    knob("AWS_EC2_ENDPOINT", "", Text("a URL"), Works, "EC2's address; `AWS_ENDPOINT_URL_EC2` goes first."),
    knob("HTTP_TIMEOUT", "10", Number("seconds, 10 or more"), Works, "Time limit of one EC2 call."),
    knob("AWS_VPC_K8S_CNI_BACKING_STORE", "/var/run/aws-node/ipam.json", LOG_PATH, NoEffect, "State is in `IPAMD_STATE_DIR`."),
    // Security groups for pods
    knob("ENABLE_POD_ENI", "false", Bool, RefuseUnless("false"), "Security groups for pods, by branch ENIs."),
    knob("POD_SECURITY_GROUP_ENFORCING_MODE", "strict", OneOf("`strict` or `standard`"), NoEffect, "Security groups for pods only."),
    knob("DISABLE_TCP_EARLY_DEMUX", "false", Bool, WarnUnless("false"), "Sets `tcp_early_demux=0`; needed for security groups for pods only."),
    // IPv6 and egress plugin
    knob("ENABLE_V4_EGRESS", "true", Bool, Works, "Where pods have IPv6 addresses alone, they reach IPv4 hosts with the node's address: each has one of 169.254.172.0/22 on its link as well, which the CNI result does not name."),
    knob("ENABLE_V6_EGRESS", "false", Bool, Works, "Where pods have IPv4 addresses alone, they reach IPv6 hosts with the node's address: each has one of fd00::ac:0/118 as well. Needs a node with an IPv6 address."),
    knob("AWS_VPC_K8S_EGRESS_V4_PLUGIN_LOG_FILE", "", LOG_PATH, NoEffect, "The egress plugin's."),
    knob("AWS_VPC_K8S_EGRESS_V6_PLUGIN_LOG_FILE", "", LOG_PATH, NoEffect, "The egress plugin's."),
    // Several network cards
    knob("ENABLE_MULTI_NIC", "false", Bool, RefuseUnless("false"), "Pods with a link on each network card."),
    // Network policy
    knob("NETWORK_POLICY_ENFORCING_MODE", "standard", OneOf("`none`, `standard` or `strict`"), RefuseUnless("standard"), "How Amazon's policy agent treats new pods. `ipamd` leaves policy to chained plugins; `none` is as good."),
    knob("ANNOTATE_POD_IP", "false", Bool, WarnUnless("false"), "Write addresses to an annotation of the pod."),
    // Logs, metrics, introspection
    knob("AWS_VPC_K8S_CNI_LOGLEVEL", "INFO", OneOf("`DEBUG`, `INFO`, `WARN` or `ERROR`"), Works, "How much is logged."),
    knob("AWS_VPC_K8S_CNI_LOG_FILE", "stdout", LOG_PATH, WarnUnless("stdout"), "Where the log goes."),
    knob("AWS_VPC_K8S_PLUGIN_LOG_LEVEL", "", Text("a level"), NoEffect, "The plugin's, by its network configuration."),
    knob("AWS_VPC_K8S_PLUGIN_LOG_FILE", "", LOG_PATH, NoEffect, "The plugin's, by its network configuration."),
    knob("DISABLE_METRICS", "false", Bool, Works, "No Prometheus metrics."),
    knob("DISABLE_INTROSPECTION", "false", Bool, WarnUnless("true"), "No introspection over HTTP. `ipamd` has it on its socket only."),
    knob("INTROSPECTION_BIND_ADDRESS", "127.0.0.1:61679", Text("an address"), NoEffect, "Introspection is on the socket only."),
    // Installation, and programs beside the daemon
    knob("HOST_CNI_BIN_PATH", "/host/opt/cni/bin", LOG_PATH, NoEffect, "The installer's."),
    knob("HOST_CNI_CONFDIR_PATH", "/host/etc/cni/net.d", LOG_PATH, Works, "The runtime's directory of network configurations. Once pods can be served, one is put there; where there is no such directory, none."),
    knob("MY_NODE_NAME", "", Text("a name"), Works, "The node's name in the cluster. Without it there are no events."),
    knob("MY_POD_NAME", "", Text("a name"), NoEffect, "`ipamd` does not look at itself."),
    knob("VPC_CNI_VERSION", "", Text("a version"), NoEffect, "Amazon's own version."),
    knob("USE_CLOUDWATCH", "", Bool, NoEffect, "The metrics helper's."),
    knob("USE_PROMETHEUS", "", Bool, NoEffect, "The metrics helper's."),
    knob("AWS_CLUSTER_ID", "", Text("a name"), NoEffect, "The metrics helper's."),
    knob("METRIC_UPDATE_INTERVAL", "", Number("seconds"), NoEffect, "The metrics helper's."),
];

/// Settings of `ipamd` alone.
#[rustfmt::skip]
pub(super) const OURS: &[Knob] = &[
    knob("IPAMD_STATE_DIR", "/var/lib/ipamd", Text("a directory"), Works, "Leases, cooldowns and ENIs; must outlive the container. The plugin leaves DELs in `spool` there: elsewhere than below `/var/lib/ipamd`, the node's `/etc/ipamd/plugin.json` has to allow it."),
    knob("IPAMD_SOCKET", "/run/ipamd/ipamd.sock", LOG_PATH, Works, "The socket that the plugin calls: elsewhere than below `/run/ipamd`, the node's `/etc/ipamd/plugin.json` has to allow it."),
    knob("IPAMD_CONFLIST", "", LOG_PATH, Works, "The network configuration that is put there; a plain one if not set."),
    knob("IPAMD_CONFLIST_NAME", "10-ipamd.conflist", Text("a file name"), Works, "Its name there: the runtime takes the first by name."),
    knob("IPAMD_BOOT_ID", "", Text("an id"), Works, "Instead of `/proc/sys/kernel/random/boot_id`, for simulated nodes."),
    knob("IPAMD_ADD_TIMEOUT_MS", "30000", Number("milliseconds, 1 to 600000"), Works, "How long an ADD waits for an address if its caller does not say."),
    knob("IPAMD_FIRST_FAMILY", "ipv4", OneOf("`ipv4` or `ipv6`"), Works, "Which address of a pod with both comes first in the CNI result. The kubelet puts the node's family first in any case."),
    knob("IPAMD_MAX_PODS", "", Number("pods, 1 or more"), Works, "The kubelet's `maxPods`; by instance type if not set."),
    knob("IPAMD_SUBNET_IDS", "", Text("subnet ids, commas between"), Works, "Subnets of new ENIs, whatever their tags; those of another zone are passed over. For shared VPCs, where the owner's tags can't be seen."),
    knob("IPAMD_ENI_SUBNET", "", Text("a subnet id"), Works, "The same for one subnet, without asking EC2 about it; `IPAMD_SUBNET_IDS` goes before it."),
    knob("IPAMD_SOURCE_CHECK", "true", Bool, Works, "Drop what pods send from addresses that are not theirs (`NET_RAW` lets them), and their redirects and router advertisements; counted in `ipamd_pod_packets_dropped_total`. Off for pods that route for others."),
    knob("IPAMD_ENI_SECURITY_GROUPS", "", Text("security group ids, commas between"), Works, "Security groups of new ENIs; the primary ENI's if not set."),
    knob("IPAMD_EC2_TIMEOUT_MS", "", Number("milliseconds, 100 to 600000"), Works, "Time limit of one EC2 call; goes before `HTTP_TIMEOUT`."),
    knob("IPAMD_IMDS_TIMEOUT_MS", "5000", Number("milliseconds, 100 to 600000"), Works, "Time limit of one look at the instance metadata."),
    knob("IPAMD_METRICS_ADDRESS", "[::]:61678", Text("address and port"), Works, "Where Prometheus finds `/metrics`. `[::]` is every address of the node, IPv4 too."),
    knob("IPAMD_SERVICE_ACCOUNT_DIR", "/var/run/secrets/kubernetes.io/serviceaccount", Text("a directory"), Works, "The service account's `token` and `ca.crt`, for events."),
    knob("IPAMD_NFT", "nft", Text("a program"), Works, "The `nft` program: a path, or a name looked up in `PATH`."),
    knob("IPAMD_LOG_FORMAT", "text", OneOf("`text` or `json`"), Works, "The log's form."),
    knob("IPAMD_TERMINATION_LOG", "/dev/termination-log", LOG_PATH, Works, "Where the reason for not starting goes, if that file is there."),
];

/// Settings that every AWS SDK and HTTP client has.
#[rustfmt::skip]
pub(super) const STANDARD: &[Knob] = &[
    knob("AWS_REGION", "", Text("a region"), Works, "The region; by instance metadata if not set."),
    knob("AWS_ENDPOINT_URL_EC2", "", Text("a URL"), Works, "EC2's address. `AWS_ENDPOINT_URL` does the same for every service."),
    knob("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://169.254.169.254", Text("a URL"), Works, "The instance metadata's address."),
    knob("AWS_CA_BUNDLE", "", Text("a PEM file"), Works, "Trusted certificates, instead of the system's."),
    knob("AWS_USE_FIPS_ENDPOINT", "false", Bool, Works, "Use FIPS endpoints."),
    knob("AWS_USE_DUALSTACK_ENDPOINT", "false", Bool, Works, "Use endpoints with IPv6 too."),
    knob("AWS_ROLE_ARN", "", Text("an ARN"), Works, "With `AWS_WEB_IDENTITY_TOKEN_FILE`: credentials of an IAM role for the service account."),
    knob("AWS_WEB_IDENTITY_TOKEN_FILE", "", LOG_PATH, Works, "See `AWS_ROLE_ARN`."),
    knob("AWS_CONTAINER_CREDENTIALS_FULL_URI", "", Text("a URL"), Works, "With `AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE`: credentials of an EKS pod identity."),
    knob("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "", LOG_PATH, Works, "See `AWS_CONTAINER_CREDENTIALS_FULL_URI`."),
    knob("KUBERNETES_SERVICE_HOST", "", Text("a name or address"), Works, "The API server, for events; the kubelet sets it."),
    knob("KUBERNETES_SERVICE_PORT", "443", Text("a port"), Works, "See `KUBERNETES_SERVICE_HOST`."),
    knob("HTTPS_PROXY", "", Text("a URL"), Works, "Proxy for `https` addresses. Never used for link-local ones."),
    knob("HTTP_PROXY", "", Text("a URL"), Works, "Proxy for `http` addresses. Never used for link-local ones."),
    knob("ALL_PROXY", "", Text("a URL"), Works, "Proxy for both, where the other two say nothing."),
    knob("NO_PROXY", "", Text("hosts and networks, commas between"), Works, "What is reached without a proxy."),
];
