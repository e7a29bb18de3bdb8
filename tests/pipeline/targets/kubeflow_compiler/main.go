// Compiles what `adclick compile` writes to an Argo workflow as Kubeflow's API server does, with the server's settings.
//
// Built within the tree of github.com/kubeflow/pipelines, whose packages it uses. Standard input is a compiled file, one
// YAML document or two; standard output the workflow as JSON, as the server sends it to Kubernetes.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/kubeflow/pipelines/api/v2alpha1/go/pipelinespec"
	"github.com/kubeflow/pipelines/backend/src/apiserver/config/proxy"
	"github.com/kubeflow/pipelines/backend/src/v2/compiler/argocompiler"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"
	"sigs.k8s.io/yaml"
)

func compile(text string) error {
	documents := strings.Split(text, "\n---\n")
	spec, err := yaml.YAMLToJSON([]byte(documents[0]))
	if err != nil {
		return err
	}
	if err := protojson.Unmarshal(spec, &pipelinespec.PipelineSpec{}); err != nil {
		return err
	}
	job := &pipelinespec.PipelineJob{
		PipelineSpec:  &structpb.Struct{},
		RuntimeConfig: &pipelinespec.PipelineJob_RuntimeConfig{},
	}
	if err := protojson.Unmarshal(spec, job.PipelineSpec); err != nil {
		return err
	}
	var kubernetes *pipelinespec.SinglePlatformSpec
	if len(documents) > 1 {
		content, err := yaml.YAMLToJSON([]byte(documents[1]))
		if err != nil {
			return err
		}
		platforms := &pipelinespec.PlatformSpec{}
		if err := protojson.Unmarshal(content, platforms); err != nil {
			return err
		}
		kubernetes = platforms.Platforms["kubernetes"]
	}
	workflow, err := argocompiler.Compile(job, kubernetes, &argocompiler.Options{})
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(workflow)
}

func main() {
	// The server does so when it starts; without, the compiler panics.
	proxy.InitializeConfigWithEnv()
	text, err := io.ReadAll(os.Stdin)
	if err == nil {
		err = compile(string(text))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
