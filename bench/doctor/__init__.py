"""The doctor's benchmark: distinct configurations, healthy and with one fault each; see docs/doctor-benchmark.md."""
