// Package k8s holds the manifests of Ledgerfeed for Kubernetes: a kustomize base,
// components and overlays. Its tests render every overlay, decode it strictly,
// hold it against the restricted Pod Security Standard, resolve what the objects
// refer to, and compare ports, probes, drain times and settings with what the
// programs really serve and read.
//
// It guarantees nothing about a cluster: nobody here has applied them to one.
package k8s
