//go:build tools

// Package operator pins the Prometheus operator.
package operator

import _ "github.com/prometheus-operator/prometheus-operator/cmd/operator"
