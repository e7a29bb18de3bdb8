#!/usr/bin/env bash
# Kubeflow Pipelines on the cluster of kubernetes.sh: its own server, controllers and Argo's as processes of this machine, the
# drivers, launchers and steps as pods. Beside them stand a database, ML Metadata, an object store for Kubeflow itself, and the
# tests' Google Cloud Storage for the project.
#   kubeflow.sh build | up
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/functions.sh"
SOURCE=$WORK/build/kubeflow ARGO_SOURCE=$WORK/build/argo
PYTHON=${ADCLICK_PYTHON:-$PROJECT/.venv/bin/python}
export PROJECT

build() {
  install_packages mariadbd:mariadb-server-core git:git
  if ! has "$KUBEFLOW" kfp-apiserver kfp-driver kfp-launcher kfp-scheduled kfp-persistence; then
    source_of kubeflow "${ADCLICK_KUBEFLOW:-https://github.com/kubeflow/pipelines}" "$KUBEFLOW"
    compile driver ./backend/src/v2/cmd/driver -tags netgo
    compile launcher-v2 ./backend/src/v2/cmd/launcher-v2 -tags netgo
    compile kfp-scheduled ./backend/src/crd/controller/scheduledworkflow
    compile kfp-persistence ./backend/src/agent/persistence
    # One of its packages is SQLite's C library; compiling another takes 3 GB.
    CGO_ENABLED=1 compile kfp-apiserver ./backend/src/apiserver
    built "$KUBEFLOW" kfp-apiserver kfp-driver kfp-launcher kfp-scheduled kfp-persistence
  fi
  if ! has "$ARGO" workflow-controller argoexec; then
    rm -rf "$ARGO_SOURCE" && cd "$SOURCE"
    cp -r "$(go mod download -json "github.com/argoproj/argo-workflows/v4@v$ARGO" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')" "$ARGO_SOURCE"
    chmod -R u+w "$ARGO_SOURCE" && cd "$ARGO_SOURCE"
    # A symbolic link in its repository, which the module's archive lacks.
    cp workflow/executor/osspecific/signal_darwin.go workflow/executor/osspecific/signal_linux.go
    compile workflow-controller ./cmd/workflow-controller
    compile argoexec ./cmd/argoexec
    built "$ARGO" workflow-controller argoexec
  fi
  if ! has "$OBJECT_STORE" gofakes3; then
    mkdir -p "$WORK/build/gofakes3" && cd "$WORK/build/gofakes3"
    [ -e go.mod ] || go mod init gofakes3 2>/dev/null
    go get "github.com/johannesboyne/gofakes3@v$OBJECT_STORE" 2>/dev/null
    compile gofakes3 github.com/johannesboyne/gofakes3/cmd/gofakes3 && built "$OBJECT_STORE" gofakes3
  fi
}

up() {
  mkdir -p "$RUN/database"
  { printf 'create database mysql;\nuse mysql;\n'; cat /usr/share/mysql/mysql_{system,performance}_tables.sql; } |
    mariadbd --no-defaults --bootstrap --datadir="$RUN/database" --user=root --skip-log-bin >"$RUN/log/database-files.log" 2>&1
  start database mariadbd --no-defaults --datadir="$RUN/database" --user=root --port=3306 --bind-address="$NODE" \
    --socket="$RUN/database.sock" --pid-file="$RUN/database.pid" --skip-grant-tables --skip-log-bin
  cd "$PROJECT"
  start metadata-store "$PYTHON" -m tests.cluster.metadata_store "$RUN/metadata.sqlite" "$NODE:8081"
  start cloud-storage "$PYTHON" -m tests.cluster.cloud_storage "$WORK/cloud-storage" "$NODE"
  start object-store gofakes3 -host "$NODE:9000" -backend memory -initialbucket mlpipeline -autobucket
  image_once "docker.io/library/kfp-driver:$KUBEFLOW" /bin/driver "$WORK/bin/driver"
  image_once "docker.io/library/kfp-launcher:$KUBEFLOW" /bin/launcher-v2 "$WORK/bin/launcher-v2"
  image_once "docker.io/library/argoexec:v$ARGO" /bin/argoexec "$WORK/bin/argoexec"

  kubectl create namespace kubeflow >/dev/null
  sed "s/@NODE@/$NODE/" "$HERE/kubeflow.yaml" | kubectl apply -f - >/dev/null
  # Without what runs as processes here.
  mkdir -p "$RUN/manifests"
  cat >"$RUN/manifests/kustomization.yaml" <<C
namespace: kubeflow
resources: [$(realpath --relative-to "$RUN/manifests" "$SOURCE/manifests/kustomize/base/installs/generic")]
patches:
  - {target: {kind: Deployment}, patch: "{\$patch: delete, apiVersion: apps/v1, kind: Deployment, metadata: {name: any}}"}
  - {target: {kind: Service}, patch: "{\$patch: delete, apiVersion: v1, kind: Service, metadata: {name: any}}"}
C
  for folder in base/pipeline/cluster-scoped base/crds; do
    kubectl apply --server-side --kustomize "$SOURCE/manifests/kustomize/$folder" >/dev/null
  done
  kubectl apply --server-side --filename "$ARGO_SOURCE/manifests/base/crds/minimal" >/dev/null 2>&1 ||
    kubectl apply --server-side --kustomize "$ARGO_SOURCE/manifests/base/crds/minimal" >/dev/null
  kubectl apply --kustomize "$RUN/manifests" >/dev/null
  sed -e 's/$(kfp-namespace)/kubeflow/' -e 's/$(kfp-artifact-bucket-name)/mlpipeline/' \
    "$SOURCE/manifests/kustomize/third-party/argo/base/workflow-controller-configmap-patch.yaml" | kubectl --namespace kubeflow apply -f - >/dev/null

  mkdir -p "$RUN/apiserver" && cp "$SOURCE/backend/src/apiserver/config/config.json" "$RUN/apiserver/"
  echo '{"pipelines": [], "loadSamplesOnRestart": false}' >"$RUN/apiserver/samples.json"
  wait_for 60 nc_database
  start_apiserver kfp-apiserver mlpipeline 8888 8887
  # The same for many users, which asks who calls and whether he may; nobody runs what it accepts.
  start_apiserver kfp-apiserver-many-users manyusers 8889 8886 MULTIUSER=true
  for port in 8888 8889; do wait_for 120 curl -sf "http://127.0.0.1:$port/apis/v2beta1/healthz"; done
  # The path is fixed in the agent.
  mkdir -p /var/run/secrets/kubeflow/tokens
  kubectl --namespace kubeflow create token ml-pipeline-persistenceagent --audience pipelines.kubeflow.org --duration 8h \
    >/var/run/secrets/kubeflow/tokens/persistenceagent-sa-token
  start kfp-persistence env NAMESPACE=kubeflow kfp-persistence --logtostderr=true --namespace=kubeflow --ttlSecondsAfterWorkflowFinish=86400 \
    --numWorker 2 --executionType Workflow --logLevel=info --kubeconfig "$KUBECONFIG" --mlPipelineAPIServerName 127.0.0.1
  start kfp-scheduled env CRON_SCHEDULE_TIMEZONE=UTC kfp-scheduled --logtostderr=true --namespace=kubeflow --logLevel=info --clientQPS=10 \
    --clientBurst=20 --recurringRunResyncIntervalSeconds=30 --metricsPort=9391 --kubeconfig "$KUBECONFIG" --mlPipelineAPIServerName 127.0.0.1
  start workflow-controller env LEADER_ELECTION_IDENTITY=node DEFAULT_REQUEUE_TIME=1s workflow-controller \
    --configmap workflow-controller-configmap --executor-image "docker.io/library/argoexec:v$ARGO" --namespaced --namespace kubeflow --kubeconfig "$KUBECONFIG"
  sleep 3
  check
}

start_apiserver() { # NAME DATABASE HTTP-PORT GRPC-PORT [VARIABLE=VALUE…]
  start "$1" env POD_NAMESPACE=kubeflow CLUSTER_DOMAIN=cluster.local PUBLISH_LOGS=true LOG_LEVEL=info PIPELINE_LOG_LEVEL=1 \
    ML_PIPELINE_VISUALIZATIONSERVER_SERVICE_HOST=127.0.0.1 ML_PIPELINE_VISUALIZATIONSERVER_SERVICE_PORT=8999 \
    OBJECTSTORECONFIG_SECURE=false OBJECTSTORECONFIG_BUCKETNAME=mlpipeline OBJECTSTORECONFIG_HOST="$NODE" OBJECTSTORECONFIG_PORT=9000 \
    OBJECTSTORECONFIG_ACCESSKEY=minio OBJECTSTORECONFIG_SECRETACCESSKEY=minio123 OBJECTSTORECONFIG_REGION=us-east-1 \
    DB_DRIVER_NAME=mysql DBDRIVERNAME=mysql DBCONFIG_CONMAXLIFETIME=120s DBCONFIG_MYSQLCONFIG_USER=root DBCONFIG_MYSQLCONFIG_PASSWORD= \
    DBCONFIG_MYSQLCONFIG_DBNAME="$2" DBCONFIG_MYSQLCONFIG_HOST="$NODE" DBCONFIG_MYSQLCONFIG_PORT=3306 \
    V2_DRIVER_IMAGE="docker.io/library/kfp-driver:$KUBEFLOW" V2_LAUNCHER_IMAGE="docker.io/library/kfp-launcher:$KUBEFLOW" \
    COMPILED_PIPELINE_SPEC_PATCH='{}' "${@:5}" \
    kfp-apiserver --config="$RUN/apiserver" --sampleconfig="$RUN/apiserver/samples.json" -logtostderr=true --logLevel=info \
    -httpPortFlag=":$3" -rpcPortFlag=":$4"
}

nc_database() { exec 3<>"/dev/tcp/$NODE/3306"; }

"$@"
