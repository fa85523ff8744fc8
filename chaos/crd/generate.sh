#!/bin/sh
# Writes the schemas of the kinds in use to DIR (.), from the API module that
# go.mod names.
set -eu
dir=${1:-.}
all=$(mktemp -d)
trap 'rm -r "$all"' EXIT
go tool -modfile="$(dirname "$(go env GOMOD)")/tools/go.mod" controller-gen \
	crd:ignoreUnexportedFields=true,crdVersions=v1,maxDescLen=0 \
	paths=github.com/chaos-mesh/chaos-mesh/api/v1alpha1 output:crd:dir="$all"
for kind in iochaos networkchaos podchaos stresschaos timechaos; do
	mv "$all/chaos-mesh.org_$kind.yaml" "$dir/"
done
