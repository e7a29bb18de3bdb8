# Read by the scripts of this folder.
# shellcheck shell=bash
HERE=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
PROJECT=$(readlink -f "$HERE/../..")
# shellcheck source=tests/cluster/versions.env
. "$HERE/versions.env"
# Programs, sources and images, kept for the next time; below run/ what one cluster writes.
WORK=${ADCLICK_CLUSTER:-${XDG_CACHE_HOME:-$HOME/.cache}/adclick-cluster}
RUN=$WORK/run
NODE=10.99.0.1 SERVICES=10.96.0.0/16 PODS=10.244.0.0/24
export WORK RUN NODE KUBECONFIG=$RUN/super-admin.conf PATH=$WORK/bin:$PATH:/usr/sbin:/sbin
export GOFLAGS="-mod=mod -buildvcs=false" CGO_ENABLED=0
mkdir -p "$WORK"/{bin,build} "$RUN"/{log,pids}

has() { # VERSION NAME…: whether these programs are there in that version
  local version=$1 name
  shift
  for name; do [ "$(cat "$WORK/bin/.$name" 2>/dev/null)" = "$version" ] || return 1; done
}

built() { # VERSION NAME…: as of now they are
  local version=$1 name
  shift
  for name; do echo "$version" >"$WORK/bin/.$name"; done
}

compile() { # NAME PACKAGE [FLAGS…]: a program of the module in the current folder
  echo "cluster: builds $1" >&2
  go build -ldflags "-s -w" -o "$WORK/bin/$1" "${@:3}" "$2"
}

source_of() { # NAME URL REFERENCE: the tree of a repository at a tag or commit, into build/NAME
  local folder=$WORK/build/$1
  [ "$(cat "$folder/.reference" 2>/dev/null)" = "$3" ] || {
    rm -rf "$folder" && mkdir -p "$folder"
    git -C "$folder" init -q && git -C "$folder" fetch -q --depth 1 "$2" "$3" && git -C "$folder" checkout -q FETCH_HEAD
    echo "$3" >"$folder/.reference"
  }
  cd "$folder"
}

start() { # NAME COMMAND…: a background process; `check` notices its end
  local name=$1
  shift
  setsid nohup "$@" >"$RUN/log/$name.log" 2>&1 </dev/null &
  echo $! >"$RUN/pids/$name"
}

check() {
  local file
  for file in "$RUN"/pids/*; do
    kill -0 "$(cat "$file")" 2>/dev/null || { tail -n 5 "$RUN/log/$(basename "$file").log" >&2; echo "cluster: $(basename "$file") has ended" >&2; return 1; }
  done
}

stop() { # NAME…: processes that `start` began, with the groups that they lead
  local name pid
  for name; do kill -- "-$(cat "$RUN/pids/$name")" 2>/dev/null || true; done
  for name; do
    pid=$(cat "$RUN/pids/$name")
    for _ in $(seq 20); do kill -0 "$pid" 2>/dev/null || break; sleep 0.25; done
    kill -9 -- "-$pid" 2>/dev/null || true
    rm "$RUN/pids/$name"
  done
}

wait_for() { # SECONDS COMMAND…
  local left=$1
  shift
  until "$@" >/dev/null 2>&1; do
    [ $((left -= 1)) -gt 0 ] || { echo "cluster: in vain waited for: $*" >&2; return 1; }
    sleep 1
  done
}

containers() { ctr --address "$RUN/containerd.sock" --namespace k8s.io "$@"; }

load() { containers images import "$1" >/dev/null; } # TAR: docker-archive

image() { # NAME ENTRYPOINT PROGRAM…: loads an image of static programs
  local name=$1 entrypoint=$2 container folder
  shift 2
  folder=$(mktemp -d) && mkdir -p "$folder"/{bin,etc,tmp} && chmod 0755 "$folder" && chmod 1777 "$folder/tmp"
  cp "$@" "$folder/bin/" && echo 'user:x:65532:65532::/tmp:/bin/false' >"$folder/etc/passwd"
  container=$(work=$WORK/images buildah_here from scratch)
  work=$WORK/images buildah_here add --quiet "$container" "$folder" / >/dev/null
  work=$WORK/images buildah_here config --user 65532 --workingdir /bin --env PATH=/bin --entrypoint "[\"$entrypoint\"]" "$container"
  work=$WORK/images buildah_here commit --quiet --rm "$container" "$name" >/dev/null
  push "$name" && rm -rf "$folder"
}

image_once() { containers images ls -q | grep -qxF "$1" || image "$@"; }

push() { # NAME: an image of Buildah's into the cluster
  rm -f "$RUN/image.tar"
  work=$WORK/images buildah_here push --quiet "$1" "docker-archive:$RUN/image.tar:$1" && load "$RUN/image.tar" && rm "$RUN/image.tar"
}
push_once() { # NAME: unless the cluster has it as it is; what it had before goes
  local identity had file=$WORK/containerd/.${1//\//-}
  identity=sha256:$(work=$WORK/images buildah_here inspect --type image --format '{{.FromImageID}}' "$1")
  had=$(cat "$file" 2>/dev/null || true)
  if [ "$had" != "$identity" ] || ! containers images ls -q | grep -qxF "$1"; then
    push "$1" && echo "$identity" >"$file"
    [ -z "$had" ] || [ "$had" = "$identity" ] || containers images rm --sync "$had" >/dev/null
  fi
}

# shellcheck source=.ci/image-functions
. "$PROJECT/.ci/image-functions"
