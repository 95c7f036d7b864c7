#!/bin/sh
# Prints the rules of ../prometheus as an object of the Prometheus operator:
#   deploy/kubernetes/prometheus-rule.sh | kubectl apply -f -
set -eu
cd "$(dirname "$0")/../prometheus"
cat <<'OBJECT'
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: mptcp-agent
  namespace: mptcp-agent
  labels:
    app.kubernetes.io/name: mptcp-agent
spec:
  groups:
OBJECT
for file in recording.yml alerts.yml; do
    sed -e '/^groups:$/d' -e '/./s/^/  /' "$file"
done
