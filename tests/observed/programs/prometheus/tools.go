//go:build tools

// Pins Prometheus; its main package is added when it is built.
package main

import _ "github.com/prometheus/prometheus/discovery/kubernetes"
