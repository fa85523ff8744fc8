// Package crd holds the schemas of the Chaos Mesh kinds in use, as a cluster's
// API server applies them, and validates objects by them without a cluster.
//
// They are generated from the API module that go.mod names; `make e2e` checks
// that they are current, and so does
//
//	go generate ./chaos/crd && git diff --exit-code chaos/crd
package crd

import (
	"embed"
	"fmt"
	"strings"
	"sync"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	v1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"
)

//go:generate ./generate.sh

//go:embed *.yaml
var files embed.FS

// validators holds a func of a kind's validator, made at its first use: a run
// reads few of the schemas, most commands none.
var validators sync.Map

// Validate returns what the schema of the kind says against an object, decoded
// from JSON. It may be called concurrently. The error says that there is no
// schema of that kind.
func Validate(kind string, object map[string]any) (field.ErrorList, error) {
	load, _ := validators.LoadOrStore(kind, sync.OnceValues(func() (validation.SchemaValidator, error) { return read(kind) }))
	validator, err := load.(func() (validation.SchemaValidator, error))()
	if err != nil {
		return nil, err
	}
	return validation.ValidateCustomResource(nil, object, validator), nil
}

func read(kind string) (validation.SchemaValidator, error) {
	text, err := files.ReadFile("chaos-mesh.org_" + strings.ToLower(kind) + ".yaml")
	if err != nil {
		return nil, fmt.Errorf("no schema of %s: %w", kind, err)
	}
	var definition v1.CustomResourceDefinition
	if err := yaml.Unmarshal(text, &definition); err != nil {
		return nil, fmt.Errorf("schema of %s: %w", kind, err)
	}
	var schema apiextensions.JSONSchemaProps
	if err := v1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(definition.Spec.Versions[0].Schema.OpenAPIV3Schema, &schema, nil); err != nil {
		return nil, fmt.Errorf("schema of %s: %w", kind, err)
	}
	validator, _, err := validation.NewSchemaValidator(&schema)
	return validator, err
}
