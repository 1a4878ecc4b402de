{{- define "carbon-router.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 48 | trimSuffix "-" }}
{{- end }}

{{- define "carbon-router.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 48 | trimSuffix "-" }}
{{- else if contains (include "carbon-router.name" .) .Release.Name }}
{{- .Release.Name | trunc 48 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "carbon-router.name" .) | trunc 48 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "carbon-router.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "carbon-router.selector" -}}
app.kubernetes.io/name: {{ include "carbon-router.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: gateway
{{- end }}

{{- define "carbon-router.redisSelector" -}}
app.kubernetes.io/name: {{ include "carbon-router.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: valkey
{{- end }}

{{- define "carbon-router.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "carbon-router.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "carbon-router.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end }}
{{- end }}

{{/* What the chart knows of the configuration, under what the operator says. */}}
{{- define "carbon-router.config" -}}
{{- $server := dict "listen" (printf "0.0.0.0:%d" (int .Values.ports.grpc)) "admin" (printf "0.0.0.0:%d" (int .Values.ports.admin)) }}
{{- if .Values.http.enabled }}
{{- $_ := set $server "http" (printf "0.0.0.0:%d" (int .Values.ports.http)) }}
{{- end }}
{{- if .Values.picker.enabled }}
{{- $_ := set $server "picker" (printf "0.0.0.0:%d" (int .Values.ports.picker)) }}
{{- end }}
{{- if .Values.scaler.enabled }}
{{- $_ := set $server "scaler" (printf "0.0.0.0:%d" (int .Values.ports.scaler)) }}
{{- end }}
{{- $ours := dict "version" 1 "server" $server }}
{{- if eq .Values.redis.mode "valkey" }}
{{- $url := printf "redis://%s-valkey:%d" (include "carbon-router.fullname" .) (int .Values.redis.port) }}
{{- $_ := set $ours "state" (dict "redis" (dict "url" $url)) }}
{{- end }}
{{- mergeOverwrite $ours (deepCopy .Values.config) | toYaml }}
{{- end }}

{{- define "carbon-router.drain" -}}
{{- $server := default dict .Values.config.server }}
{{- if hasKey $server "drain_s" }}{{ $server.drain_s }}{{ else }}30{{ end }}
{{- end }}

{{- define "carbon-router.adminScheme" -}}
{{- if (default dict .Values.config.server).admin_tls }}HTTPS{{ else }}HTTP{{ end }}
{{- end }}

{{/* Whether it asks the API server as its service account: for the Role of this chart, or for another. */}}
{{- define "carbon-router.asksCluster" -}}
{{- $asks := .Values.discovery.rbac.create }}
{{- range .Values.config.discovery }}
{{- if and (eq (toString .kind) "kubernetes") (not .kubeconfig) }}{{ $asks = true }}{{ end }}
{{- end }}
{{- $asks }}
{{- end }}

{{- define "carbon-router.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "carbon-router.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}
