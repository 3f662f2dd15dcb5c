//go:build tools

package operator

import _ "github.com/prometheus-operator/prometheus-operator/cmd/operator"
