{{- define "triton-canary.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* 52 characters: a StatefulSet's pods add their ordinal and a hash to it, and the whole is a label's value. */}}
{{- define "triton-canary.fullname" -}}
{{- $name := include "triton-canary.name" . }}
{{- $full := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) }}
{{- .Values.fullnameOverride | default $full | trunc 52 | trimSuffix "-" }}
{{- end }}

{{- define "triton-canary.namespace" -}}
{{- .Values.namespaceOverride | default .Release.Namespace }}
{{- end }}

{{- define "triton-canary.selectorLabels" -}}
app.kubernetes.io/name: {{ include "triton-canary.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "triton-canary.labels" -}}
{{ include "triton-canary.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: exporter
app.kubernetes.io/part-of: triton-canary
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* The metadata of an object, from a dict: root, and name, namespace, labels, annotations of its own. */}}
{{- define "triton-canary.metadata" -}}
name: {{ .name | default (include "triton-canary.fullname" .root) }}
namespace: {{ .namespace | default (include "triton-canary.namespace" .root) }}
labels:
  {{- merge (dict) (.labels | default dict) (include "triton-canary.labels" .root | fromYaml) | toYaml | nindent 2 }}
{{- with merge (dict) (.annotations | default dict) .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "triton-canary.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (.Values.serviceAccount.create | ternary (include "triton-canary.fullname" .) "default") }}
{{- end }}

{{- define "triton-canary.image" -}}
{{- with .Values.global.imageRegistry | default .Values.image.registry }}{{ . }}/{{ end }}
{{- .Values.image.repository }}
{{- with .Values.image.digest }}@{{ . }}{{ else }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{- define "triton-canary.pullSecrets" -}}
{{- with concat .Values.global.imagePullSecrets .Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "triton-canary.scheme" -}}
{{- .Values.webConfig.tls | ternary "https" "http" }}
{{- end }}

{{/* A probe, which asks by https where the pages speak it; from a dict: root, probe. */}}
{{- define "triton-canary.probe" -}}
{{- $probe := deepCopy .probe }}
{{- if and .root.Values.webConfig.tls $probe.httpGet }}
{{- $_ := set $probe "httpGet" (merge $probe.httpGet (dict "scheme" "HTTPS")) }}
{{- end }}
{{- toYaml $probe }}
{{- end }}

{{/* JSON is YAML, and keeps 1000000 what it is: toYaml writes 1e+06, which is no whole number. */}}
{{- define "triton-canary.config" -}}
{{- if hasKey .Values.config "data_directory" }}
{{- fail "config.data_directory: the chart sets it; see persistence" }}
{{- end }}
{{- if hasKey (.Values.config.web | default dict) "listen" }}
{{- fail "config.web.listen: the chart sets it; see service.port" }}
{{- end }}
{{- toPrettyJson .Values.config }}
{{- end }}

{{- define "triton-canary.check" -}}
{{- if and .Values.persistence.existingClaim (gt (int .Values.shards) 1) }}
{{- fail "persistence.existingClaim is one volume, and every shard needs its own: leave it empty, or have one shard" }}
{{- end }}
{{- if and .Values.webConfig.tls (not .Values.webConfig.existingSecret) }}
{{- fail "webConfig.tls needs webConfig.existingSecret, which holds the certificate" }}
{{- end }}
{{- end }}
