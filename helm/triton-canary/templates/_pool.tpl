{{/* What a pod of the pool is selected by, from a dict: root, role, place. The daemon's Service must not take it for one. */}}
{{- define "triton-canary.poolSelector" -}}
app.kubernetes.io/name: {{ printf "%s-%s" (include "triton-canary.name" .root | trunc 52) .role | quote }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
{{- with .place }}
triton-canary/place: {{ . | quote }}
{{- end }}
{{- end }}

{{- define "triton-canary.schedulerName" -}}
{{- printf "%s-pool" (include "triton-canary.fullname" .) }}
{{- end }}

{{/* The certificates of all sides: each presents its own to the other, and plain connections are refused. */}}
{{- define "triton-canary.poolTlsEnv" -}}
{{- if .Values.pool.enabled }}
- name: DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION
  value: "True"
- name: DASK_DISTRIBUTED__COMM__TLS__CA_FILE
  value: /etc/triton-canary/pool/ca.crt
{{- range list "CLIENT" "SCHEDULER" "WORKER" }}
- name: DASK_DISTRIBUTED__COMM__TLS__{{ . }}__CERT
  value: /etc/triton-canary/pool/tls.crt
- name: DASK_DISTRIBUTED__COMM__TLS__{{ . }}__KEY
  value: /etc/triton-canary/pool/tls.key
{{- end }}
{{- end }}
{{- end }}

{{- define "triton-canary.poolTlsMount" -}}
{{- if .Values.pool.enabled }}
- name: pool
  mountPath: /etc/triton-canary/pool
  readOnly: true
{{- end }}
{{- end }}

{{- define "triton-canary.poolTlsVolume" -}}
{{- if .Values.pool.enabled }}
- name: pool
  secret:
    secretName: {{ .Values.pool.tls.existingSecret }}
    defaultMode: 0440
{{- end }}
{{- end }}

{{/* The pod of a scheduler or a worker, from a dict: root, role, place, args, ports, resources, and settings (nodeSelector,
tolerations, affinity). It has none of the daemon's rights, and its pages are its health alone. */}}
{{- define "triton-canary.poolPod" -}}
metadata:
  labels:
    {{- merge (dict) (include "triton-canary.poolSelector" . | fromYaml) (include "triton-canary.labels" .root | fromYaml) | toYaml | nindent 4 }}
  {{- with .root.Values.commonAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  automountServiceAccountToken: false
  enableServiceLinks: false
  {{- include "triton-canary.pullSecrets" .root | nindent 2 }}
  {{- with .settings }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- with .root.Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  securityContext:
    {{- toYaml .root.Values.podSecurityContext | nindent 4 }}
  containers:
    - name: {{ .role }}
      image: {{ include "triton-canary.image" .root | quote }}
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      command: [dask, {{ .role }}]
      args:
        {{- toYaml .args | nindent 8 }}
      env:
        - name: POD_IP
          valueFrom:
            fieldRef:
              fieldPath: status.podIP
        - name: DASK_DISTRIBUTED__{{ upper .role }}__HTTP__ROUTES
          value: '["distributed.http.health"]'
        - name: DASK_TEMPORARY_DIRECTORY
          value: /tmp
        {{- if eq .role "worker" }}
        - name: CANARY_POOL_KEPT_MIB
          value: {{ .root.Values.pool.inputMiB | quote }}
        {{- end }}
        {{- include "triton-canary.poolTlsEnv" .root | nindent 8 }}
      ports:
        {{- range $name, $port := .ports }}
        - {name: {{ $name }}, containerPort: {{ $port }}, protocol: TCP}
        {{- end }}
      livenessProbe:
        httpGet: {path: /health, port: health}
        periodSeconds: 30
        timeoutSeconds: 5
        failureThreshold: 4
      startupProbe:
        httpGet: {path: /health, port: health}
        periodSeconds: 2
        timeoutSeconds: 5
        failureThreshold: 60
      {{- with .resources }}
      resources:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      securityContext:
        {{- toYaml .root.Values.securityContext | nindent 8 }}
      volumeMounts:
        - name: tmp
          mountPath: /tmp
        {{- include "triton-canary.poolTlsMount" .root | nindent 8 }}
        {{- if eq .role "worker" }}
        {{- range .root.Values.secretMounts }}
        - name: secret-{{ .name }}
          mountPath: /etc/triton-canary/secrets/{{ .name }}
          readOnly: true
        {{- end }}
        {{- with .root.Values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
        {{- end }}
  volumes:
    - name: tmp
      emptyDir:
        sizeLimit: {{ if eq .role "worker" }}{{ add 64 (mul 2 .root.Values.pool.inputMiB) }}{{ else }}64{{ end }}Mi
    {{- include "triton-canary.poolTlsVolume" .root | nindent 4 }}
    {{- if eq .role "worker" }}
    {{- range .root.Values.secretMounts }}
    - name: secret-{{ .name }}
      secret:
        secretName: {{ .secretName }}
        defaultMode: 0440
    {{- end }}
    {{- with .root.Values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    {{- end }}
{{- end }}
