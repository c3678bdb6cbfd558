"""The door of OpenTelemetry: spans, over HTTP."""
