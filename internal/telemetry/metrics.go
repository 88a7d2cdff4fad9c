package telemetry

import (
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// NewRegistry returns a registry that tells which build of which program runs, and how its Go runtime and its process
// are. A registry serves one process: registering twice what has one name is an error.
func NewRegistry(program, version string) *prometheus.Registry {
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "sealkeep_build_info",
		Help:        "Always 1; its labels tell which build runs.",
		ConstLabels: prometheus.Labels{"program": program, "version": version, "go_version": runtime.Version()},
	})
	build.Set(1)
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		build,
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return registry
}
