#!/usr/bin/env bash
# A real Kubernetes of one node on this machine: etcd, the control plane, kubelet, kube-proxy, CoreDNS, metrics server and a
# network that enforces policies, built from Go modules and run as plain processes over Debian's containerd and runc.
#   kubernetes.sh build | up | down
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/functions.sh"

build() {
  install_packages containerd:containerd runc:runc buildah:buildah iptables:iptables ipset:ipset ip:iproute2 nft:nftables \
    conntrack:conntrack gcc:gcc git:git
  [ -e /usr/lib/cni/bridge ] || install_packages no-such-command:containernetworking-plugins
  local commands=(kubectl kubeadm kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubelet)
  if ! has "$KUBERNETES" "${commands[@]}"; then
    # The module replaces its staging modules by folders that its archive lacks: the published ones are named instead.
    mkdir -p "$WORK/build/kubernetes" && cd "$WORK/build/kubernetes"
    local source flags="-s -w" package
    source=$(go mod download -json "k8s.io/kubernetes@v$KUBERNETES" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
    sed -e 's#^module .*#module cluster#' -e "s#\(k8s.io/[a-z0-9-]*\) => ./staging/src/\(k8s.io/[a-z0-9-]*\)#\1 => \2 v0${KUBERNETES#1}#" \
      "$source/go.mod" >go.mod
    cp "$source/go.sum" go.sum && chmod u+w go.sum
    go mod edit -require "k8s.io/kubernetes@v$KUBERNETES"
    for package in component-base client-go/pkg; do
      flags+=" -X k8s.io/$package/version.gitVersion=v$KUBERNETES -X k8s.io/$package/version.gitMajor=1 -X k8s.io/$package/version.gitMinor=${KUBERNETES:2:2}"
    done
    echo "cluster: builds ${commands[*]}" >&2
    go build -trimpath -ldflags "$flags" -o "$WORK/bin/" "${commands[@]/#/k8s.io/kubernetes/cmd/}"
    built "$KUBERNETES" "${commands[@]}"
  fi
  program etcd "$ETCD" go.etcd.io/etcd/server/v3
  program coredns "$COREDNS" github.com/coredns/coredns
  program metrics-server "$METRICS_SERVER" sigs.k8s.io/metrics-server /cmd/metrics-server
  if ! has "$KUBE_ROUTER" kube-router; then
    source_of kube-router "${ADCLICK_KUBE_ROUTER:-https://github.com/cloudnativelabs/kube-router}" "$KUBE_ROUTER"
    go mod edit -replace "github.com/vishvananda/netlink=github.com/vishvananda/netlink@v$NETLINK"
    compile kube-router ./cmd/kube-router && built "$KUBE_ROUTER" kube-router
  fi
  if ! has 1 pause; then
    cat >"$WORK/build/pause.c" <<'C'
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>
static void end(int number) { exit(0); }
int main(void) { signal(SIGTERM, end); signal(SIGINT, end); signal(SIGCHLD, SIG_IGN); for (;;) pause(); }
C
    gcc -static -O2 -o "$WORK/bin/pause" "$WORK/build/pause.c" && built 1 pause
  fi
}

program() { # NAME VERSION MODULE [/COMMAND]
  has "$2" "$1" && return
  mkdir -p "$WORK/build/$1" && cd "$WORK/build/$1"
  [ -e go.mod ] || go mod init "$1" 2>/dev/null
  go get "$3@v$2" 2>/dev/null && compile "$1" "$3${4:-}" && built "$2" "$1"
}

up() {
  local pki=$RUN/pki who
  ip link show kube0 >/dev/null 2>&1 || { ip link add kube0 type bridge && ip addr add "$NODE/32" dev kube0 && ip link set kube0 up; }
  sysctl -qw net.ipv4.ip_forward=1
  sysctl -qw net.bridge.bridge-nf-call-iptables=1 || true
  mkdir -p "$RUN/cni"
  cat >"$RUN/cni/10-pods.conflist" <<C
{"cniVersion": "0.4.0", "name": "pods", "plugins": [
 {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
  "ipam": {"type": "host-local", "dataDir": "$RUN/addresses", "ranges": [[{"subnet": "$PODS"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
 {"type": "portmap", "capabilities": {"portMappings": true}}]}
C
  # Where a sandbox may not lower its OOM score, no pod starts without the restriction.
  cat >"$RUN/containerd.toml" <<C
version = 2
root = "$WORK/containerd"
state = "$RUN/containerd"
[grpc]
  address = "$RUN/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "registry.k8s.io/pause:3.10"
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$RUN/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
C
  start containerd containerd --config "$RUN/containerd.toml"
  if [ ! -e "$RUN/kubelet.conf" ]; then
    kubeadm init phase certs all --cert-dir "$pki" --apiserver-advertise-address "$NODE" --apiserver-cert-extra-sans 127.0.0.1,localhost \
      --service-cidr "$SERVICES" --kubernetes-version "v$KUBERNETES" >/dev/null
    for who in admin super-admin controller-manager scheduler kubelet; do
      kubeadm init phase kubeconfig "$who" --cert-dir "$pki" --apiserver-advertise-address "$NODE" --kubeconfig-dir "$RUN" \
        $([ "$who" = kubelet ] && echo --node-name node) --kubernetes-version "v$KUBERNETES" >/dev/null
    done
  fi
  start etcd etcd --data-dir "$RUN/etcd" --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
    --listen-peer-urls http://127.0.0.1:2380 --unsafe-no-fsync
  start kube-apiserver kube-apiserver --etcd-servers=http://127.0.0.1:2379 --advertise-address="$NODE" --secure-port=6443 \
    --service-cluster-ip-range="$SERVICES" --allow-privileged --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction \
    --client-ca-file="$pki/ca.crt" --tls-cert-file="$pki/apiserver.crt" --tls-private-key-file="$pki/apiserver.key" \
    --kubelet-client-certificate="$pki/apiserver-kubelet-client.crt" --kubelet-client-key="$pki/apiserver-kubelet-client.key" \
    --kubelet-preferred-address-types=InternalIP \
    --service-account-key-file="$pki/sa.pub" --service-account-signing-key-file="$pki/sa.key" \
    --service-account-issuer=https://kubernetes.default.svc.cluster.local \
    --proxy-client-cert-file="$pki/front-proxy-client.crt" --proxy-client-key-file="$pki/front-proxy-client.key" \
    --requestheader-client-ca-file="$pki/front-proxy-ca.crt" --requestheader-allowed-names=front-proxy-client \
    --requestheader-extra-headers-prefix=X-Remote-Extra- --requestheader-group-headers=X-Remote-Group \
    --requestheader-username-headers=X-Remote-User --enable-aggregator-routing
  wait_for 90 kubectl get --raw /readyz
  # What kubeadm's certificates of the API server rest on.
  kubectl create clusterrolebinding kubeadm:cluster-admins --clusterrole=cluster-admin --group=kubeadm:cluster-admins >/dev/null 2>&1 || true
  start kube-controller-manager kube-controller-manager --kubeconfig="$RUN/controller-manager.conf" --use-service-account-credentials \
    --authentication-kubeconfig="$RUN/controller-manager.conf" --authorization-kubeconfig="$RUN/controller-manager.conf" \
    --service-account-private-key-file="$pki/sa.key" --root-ca-file="$pki/ca.crt" --cluster-signing-cert-file="$pki/ca.crt" \
    --cluster-signing-key-file="$pki/ca.key" --leader-elect=false --horizontal-pod-autoscaler-sync-period=10s
  start kube-scheduler kube-scheduler --kubeconfig="$RUN/scheduler.conf" --authentication-kubeconfig="$RUN/scheduler.conf" \
    --authorization-kubeconfig="$RUN/scheduler.conf" --leader-elect=false
  cat >"$RUN/kubelet.yaml" <<C
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $pki/ca.crt}}
authorization: {mode: Webhook}
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
clusterDNS: [10.96.0.10]
clusterDomain: cluster.local
containerRuntimeEndpoint: unix://$RUN/containerd.sock
imageGCHighThresholdPercent: 99
imageGCLowThresholdPercent: 98
evictionHard: {nodefs.available: "1%", imagefs.available: "1%", memory.available: 100Mi}
resolvConf: $RUN/resolv.conf
podLogsDir: $RUN/podlogs
C
  : >"$RUN/resolv.conf"
  start kubelet kubelet --config="$RUN/kubelet.yaml" --kubeconfig="$RUN/kubelet.conf" --hostname-override=node --node-ip="$NODE" \
    --root-dir="$RUN/kubelet" --cert-dir="$RUN/kubelet-pki"
  cat >"$RUN/proxy.yaml" <<C
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {kubeconfig: $KUBECONFIG}
mode: nftables
clusterCIDR: $PODS
hostnameOverride: node
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
C
  start kube-proxy kube-proxy --config="$RUN/proxy.yaml"
  start metrics-server metrics-server --kubeconfig="$KUBECONFIG" --authentication-kubeconfig="$KUBECONFIG" --authorization-kubeconfig="$KUBECONFIG" \
    --secure-port=4454 --cert-dir="$RUN/metrics" --kubelet-insecure-tls --kubelet-preferred-address-types=InternalIP --metric-resolution=15s
  wait_for 30 containers images ls -q
  image_once registry.k8s.io/pause:3.10 /bin/pause "$WORK/bin/pause"
  image_once "localhost/coredns:$COREDNS" /bin/coredns "$WORK/bin/coredns"
  sed "s/@COREDNS@/$COREDNS/" "$HERE/system.yaml" | kubectl apply -f - >/dev/null
  kubectl wait --for=create node/node --timeout=90s >/dev/null
  kubectl wait --for=condition=Ready node/node --timeout=90s >/dev/null
  kubectl --namespace kube-system wait --for=condition=Available deployment/coredns --timeout=120s >/dev/null
  # kube-router ends where its node is not yet known.
  start kube-router kube-router --run-router=false --run-firewall --run-service-proxy=false --run-loadbalancer=false \
    --kubeconfig="$KUBECONFIG" --hostname-override=node --service-cluster-ip-range="$SERVICES" --metrics-port=0 --health-port=0
  sleep 3
  check
}

down() {
  # shellcheck disable=SC2046
  stop $(ls "$RUN/pids")
  # What is left of the pods: this cluster's shims, by its socket.
  local pid link
  for pid in $(pgrep -f "containerd-shim.* -address $RUN/containerd.sock" || true); do
    # Its containers die with their process groups' leaders.
    pkill -9 -P "$pid" || true
    kill -9 "$pid" 2>/dev/null || true
  done
  # An interface each: what is left of the pods' networks.
  for link in $(ip -output link show master cni0 2>/dev/null | sed 's/^[0-9]*: \([^@:]*\).*/\1/'); do ip link del "$link" || true; done
  kube-router --cleanup-config --kubeconfig="$KUBECONFIG" >/dev/null 2>&1 || true
  local chain hook table
  for chain in KUBE-FIREWALL KUBE-NWPLCY-TAIL KUBE-KUBELET-CANARY; do
    for hook in INPUT OUTPUT; do iptables -D "$hook" -j "$chain" 2>/dev/null || true; done
    for table in filter nat mangle; do iptables -t "$table" -F "$chain" 2>/dev/null && iptables -t "$table" -X "$chain" || true; done
  done
  nft delete table ip kube-proxy 2>/dev/null || true
  nft delete table ip6 kube-proxy 2>/dev/null || true
  for link in kube0 cni0; do ip link del "$link" 2>/dev/null || true; done
  rm -rf /var/run/secrets/kubeflow
  awk -v run="$RUN/" 'index($2, run) == 1 { print $2 }' /proc/mounts | sort --reverse | xargs --no-run-if-empty umount --lazy
  rm --recursive --force --one-file-system "$RUN"
}

"$@"
