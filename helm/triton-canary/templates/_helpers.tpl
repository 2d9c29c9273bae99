{{- define "triton-canary.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* 52 characters: a StatefulSet's pods add their ordinal and a hash to it, and the whole is a label's value. */}}
{{- define "triton-canary.fullname" -}}
{{- $name := include "triton-canary.name" . }}
{{- $full := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) }}
{{- .Values.fullnameOverride | default $full | trunc 52 | trimSuffix "-" }}
{{- end }}

{{/* The other half of a standby pair; as long as a StatefulSet's name may be. */}}
{{- define "triton-canary.secondName" -}}
{{- printf "%s-second" (include "triton-canary.fullname" . | trunc 45 | trimSuffix "-") }}
{{- end }}

{{- define "triton-canary.namespace" -}}
{{- .Values.namespaceOverride | default .Release.Namespace }}
{{- end }}

{{- define "triton-canary.selectorLabels" -}}
app.kubernetes.io/name: {{ include "triton-canary.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{/* What the pod of `helm test` is known by: the Service must not take it for a daemon. */}}
{{- define "triton-canary.testLabels" -}}
app.kubernetes.io/name: triton-canary-test
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "triton-canary.labels" -}}
{{- $ours := dict
  "app.kubernetes.io/version" .Chart.AppVersion
  "app.kubernetes.io/component" "exporter"
  "app.kubernetes.io/part-of" "triton-canary"
  "app.kubernetes.io/managed-by" .Release.Service
  "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_") }}
{{- merge (include "triton-canary.selectorLabels" . | fromYaml) .Values.commonLabels $ours | toYaml }}
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

{{/* Of a pool all sides have Dask, which is in an image of its own. */}}
{{- define "triton-canary.image" -}}
{{- with .Values.global.imageRegistry | default .Values.image.registry }}{{ . }}/{{ end }}
{{- .Values.image.repository }}
{{- with .Values.image.digest }}@{{ . }}{{ else }}:{{ .Values.image.tag | default (printf "%s%s" .Chart.AppVersion (ternary "-dask" "" .Values.pool.enabled)) }}{{ end }}
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
{{- if and .Values.standby.enabled (hasKey .Values.config "standby") }}
{{- fail "config.standby: the chart sets it; see standby" }}
{{- end }}
{{- toPrettyJson .Values.config }}
{{- end }}

{{/* What all endpoints of the ServiceMonitor have in common; from a dict: root, interval, scrapeTimeout, honorLabels,
relabelings. */}}
{{- define "triton-canary.endpoint" -}}
port: http
scheme: {{ include "triton-canary.scheme" .root }}
interval: {{ .interval }}
{{- with .scrapeTimeout }}
scrapeTimeout: {{ . }}
{{- end }}
honorLabels: {{ .honorLabels }}
{{- with .relabelings }}
relabelings:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- range $key := list "tlsConfig" "basicAuth" "metricRelabelings" }}
{{- with get $.root.Values.serviceMonitor $key }}
{{ $key }}:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end }}

{{/* Of a duration as Prometheus writes it. */}}
{{- define "triton-canary.milliseconds" -}}
{{- $units := dict "d" 86400000 "h" 3600000 "m" 60000 "s" 1000 "ms" 1 }}
{{- $sum := 0 }}
{{- range regexFindAll "[0-9]+[a-z]+" . -1 }}
{{- $sum = add $sum (mul (regexFind "[0-9]+" . | atoi) (get $units (regexFind "[a-z]+" .))) }}
{{- end }}
{{- $sum }}
{{- end }}

{{/* Why `standby.enabled` must not change now, from a dict: root, found (the StatefulSets that there are, with {} for
none). Pods that are being deleted count in status.replicas. */}}
{{- define "triton-canary.leaseless" -}}
{{- $enabled := .root.Values.standby.enabled }}
{{- $busy := list }}
{{- range .found }}
{{- if or (dig "spec" "replicas" 0 .) (dig "status" "replicas" 0 .) }}
{{- $leased := false }}
{{- range (first .spec.template.spec.containers).env }}
{{- $leased = or $leased (eq .name "TRITON_CANARY_STANDBY__LEASE") }}
{{- end }}
{{- if ne $leased $enabled }}
{{- $busy = append $busy .metadata.name }}
{{- end }}
{{- end }}
{{- end }}
{{- with $busy }}
{{- printf "standby.enabled changes only while nothing measures: scale statefulset/%s to 0, and wait until the pods are gone" (join " statefulset/" .) }}
{{- end }}
{{- end }}

{{/* What the schema can't say; all that is wrong at once. */}}
{{- define "triton-canary.check" -}}
{{- $sharded := gt (int .Values.shards) 1 }}
{{- $wrong := list }}
{{- if and .Values.existingConfigMap .Values.configExistingSecret }}
{{- $wrong = append $wrong "existingConfigMap, configExistingSecret: the configuration is in one of them; leave the other empty" }}
{{- end }}
{{- if and .Values.persistence.existingClaim $sharded }}
{{- $wrong = append $wrong "persistence.existingClaim is one volume, and every shard needs its own: leave it empty, or have one shard" }}
{{- end }}
{{- if and .Values.pool.enabled (not .Values.pool.tls.existingSecret) }}
{{- $wrong = append $wrong "pool.enabled needs pool.tls.existingSecret: whoever reaches the scheduler can run code on its workers" }}
{{- end }}
{{- if and .Values.webConfig.tls (not .Values.webConfig.existingSecret) }}
{{- $wrong = append $wrong "webConfig.tls needs webConfig.existingSecret, which holds the certificate" }}
{{- end }}
{{- range $place, $labels := dict "commonLabels" .Values.commonLabels "podLabels" .Values.podLabels "service.labels" .Values.service.labels }}
{{- range $key := list "app.kubernetes.io/name" "app.kubernetes.io/instance" }}
{{- if hasKey $labels $key }}
{{- $wrong = append $wrong (printf "%s: %s is what the pods are selected by, and the chart's; see nameOverride" $place $key) }}
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.serviceMonitor }}
{{- if .enabled }}
{{- $scrapes := list (merge (dict "place" "serviceMonitor") .) }}
{{- range $index, $probe := .probes }}
{{- $scrapes = append $scrapes (merge (dict "place" (printf "serviceMonitor.probes[%d]" $index)) $probe) }}
{{- end }}
{{- range $scrapes }}
{{- if gt (include "triton-canary.milliseconds" (.scrapeTimeout | default "") | atoi) (include "triton-canary.milliseconds" .interval | atoi) }}
{{- $wrong = append $wrong (printf "%s.scrapeTimeout: %s is longer than the interval, %s, and prometheus-operator refuses that" .place .scrapeTimeout .interval) }}
{{- end }}
{{- end }}
{{- if and .probes $sharded }}
{{- $wrong = append $wrong "serviceMonitor.probes: all shards would be asked, and all but one know nothing of the probe: have one shard" }}
{{- end }}
{{- if and .probes (not (or $.Values.existingConfigMap $.Values.configExistingSecret)) (not ($.Values.config.web | default dict).probe) }}
{{- $wrong = append $wrong "serviceMonitor.probes needs config.web.probe: true; without it /probe is off" }}
{{- end }}
{{- end }}
{{- end }}
{{- $found := list }}
{{- range list (include "triton-canary.fullname" .) (include "triton-canary.secondName" .) }}
{{- $found = append $found (lookup "apps/v1" "StatefulSet" (include "triton-canary.namespace" $) .) }}
{{- end }}
{{- with include "triton-canary.leaseless" (dict "root" . "found" $found) }}
{{- $wrong = append $wrong . }}
{{- end }}
{{- with $wrong }}
{{- fail (join "\n" .) }}
{{- end }}
{{- end }}
