{{/* Where the configuration's targets are, as rules of a NetworkPolicy's egress, each once. A policy knows no names: an
address is one, a Service of the cluster is its namespace (with any port, since a Service's is not its pods'), and of any
other name only the port is known. */}}
{{- define "triton-canary.egress" -}}
{{- $ports := dict
  "triton" (dict "http" 8000 "https" 443 "grpc" 8001 "grpcs" 8001)
  "oip" (dict "http" 8080 "https" 443 "grpc" 8081 "grpcs" 8081)
  "tfserving" (dict "http" 8501 "https" 443 "grpc" 8500 "grpcs" 8500)
  "torchserve" (dict "http" 8080 "https" 443)
  "openai" (dict "http" 8000 "https" 443)
  "triton_generate" (dict "http" 8000 "https" 443) }}
{{- $pages := dict "triton" 8002 "oip" 8082 "tfserving" 8501 "torchserve" 8082 "openai" 8000 "triton_generate" 8002 }}
{{- $rules := list }}
{{- range .Values.config.targets }}
{{- $kind := .kind | default "triton" }}
{{- $urls := list }}
{{- if .url }}
{{- $urls = append $urls (dict "url" .url "ports" (get $ports $kind | default dict)) }}
{{- if not .metrics_url }}
{{- $page := get $pages $kind }}
{{- $urls = append $urls (dict "url" (printf "http://%s:%v" (include "triton-canary.host" .url) $page) "ports" dict) }}
{{- end }}
{{- end }}
{{- $web := dict "http" 80 "https" 443 }}
{{- $list := (.discover | default dict).http_sd | default dict }}
{{- range list .metrics_url .management_url ($list.proxy_url | default $list.url) }}
{{- if and (kindIs "string" .) . }}
{{- $urls = append $urls (dict "url" . "ports" $web) }}
{{- end }}
{{- end }}
{{- $moves := and .discover (not .discover.dns) }}
{{- range $urls }}
{{- $url := urlParse .url }}
{{- $port := regexFind ":[0-9]+$" $url.host | trimPrefix ":" | default (get .ports $url.scheme) | int }}
{{- $host := include "triton-canary.host" .url }}
{{- $rule := dict "ports" (list (dict "port" $port "protocol" "TCP")) }}
{{- if or $moves (eq $port 0) }}
{{- else if regexMatch "^[0-9.]+$" $host }}
{{- $rule = set $rule "to" (list (dict "ipBlock" (dict "cidr" (printf "%s/32" $host)))) }}
{{- else if hasPrefix "[" $host }}
{{- $rule = set $rule "to" (list (dict "ipBlock" (dict "cidr" (printf "%s/128" (trimAll "[]" $host))))) }}
{{- else if regexMatch "^[a-z0-9-]+$" $host }}
{{- $rule = dict "to" (list (dict "podSelector" dict)) }}
{{- else if regexMatch "^[a-z0-9-]+(\\.[a-z0-9-]+)?\\.[a-z0-9-]+\\.svc(\\..+)?$" $host }}
{{- $name := regexReplaceAll "\\.svc(\\..+)?$" $host "" }}
{{- $labels := dict "kubernetes.io/metadata.name" (regexFind "[^.]+$" $name) }}
{{- $rule = dict "to" (list (dict "namespaceSelector" (dict "matchLabels" $labels))) }}
{{- end }}
{{- if gt $port 0 }}
{{- $rules = append $rules $rule }}
{{- end }}
{{- end }}
{{- end }}
{{- with $rules | uniq }}
{{- toYaml . }}
{{- end }}
{{- end }}

{{/* A url's host, an address of IPv6 in brackets. */}}
{{- define "triton-canary.host" -}}
{{- $host := (urlParse .).host }}
{{- regexReplaceAll ":[0-9]+$" $host "" }}
{{- end }}

{{/* Where the load goes: rules of an egress. */}}
{{- define "triton-canary.toTargets" -}}
{{- with .Values.networkPolicy }}
{{- $targets := ternary (include "triton-canary.egress" $) "" .toTargets }}
{{- with $targets }}
{{- . }}
{{- end }}
{{- with .to }}
{{- toYaml . | nindent 0 }}
{{- else }}
{{- if not $targets }}
# Where no targets are known here: Triton's own ports, anywhere.
- ports:
    - {port: 8000, protocol: TCP}
    - {port: 8001, protocol: TCP}
    - {port: 8002, protocol: TCP}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* A way to the pool's pods, from a dict: root, role, port. */}}
{{- define "triton-canary.toPool" -}}
- to:
    - podSelector:
        matchLabels:
          {{- include "triton-canary.poolSelector" . | nindent 10 }}
  ports:
    - {port: {{ .port }}, protocol: TCP}
{{- end }}
