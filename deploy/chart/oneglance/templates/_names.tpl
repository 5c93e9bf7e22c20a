# Of objects: at most 49 characters, since "-check-upgrade" follows, letters, digits and "-", and a letter first, as a
# Service's must be. Where the release's doesn't do, a hash of it tells it from others that begin alike.
{{- define "oneglance.name" -}}
{{- $release := .Release.Name }}
{{- if eq $release "oneglance" }}oneglance
{{- else if regexMatch "^[a-z][a-z0-9-]{0,38}$" $release }}{{ $release }}-oneglance
{{- else }}{{ regexReplaceAll "[^a-z0-9-]" (printf "r-%s" $release) "-" | trunc 30 | trimSuffix "-" }}-{{ sha256sum $release | trunc 8 }}-oneglance
{{- end }}
{{- end }}

{{- define "oneglance.selector" -}}
app.kubernetes.io/name: oneglance
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "oneglance.serversSelector" -}}
app.kubernetes.io/name: oneglance-server
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

# Of whom clients call: the servers where there are any.
{{- define "oneglance.frontSelector" -}}
{{ if .Values.servers.replicas }}{{ include "oneglance.serversSelector" . }}{{ else }}{{ include "oneglance.selector" . }}{{ end }}
{{- end }}

{{- define "oneglance.labels" -}}
{{ include "oneglance.selector" . }}
{{ include "oneglance.moreLabels" . }}
{{- end }}

{{- define "oneglance.moreLabels" -}}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "oneglance.image" -}}
{{ .Values.image.repository }}{{ if .Values.image.digest }}@{{ .Values.image.digest }}{{ else }}:{{ .Values.image.tag }}{{ end }}
{{- end }}

{{- define "oneglance.claim" -}}
{{ .Values.persistence.existingClaim | default (include "oneglance.name" .) }}
{{- end }}

{{- define "oneglance.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "oneglance.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "oneglance.masterKeyEnv" -}}
{{- if .Values.masterKey.secret }}
- name: ONEGLANCE_MASTER_KEY
  value: file:/run/secrets/oneglance/master-key/master.key
{{- end }}
{{- end }}

{{- define "oneglance.probe" -}}
command:
  - oneglance
  - health
  - --server=127.0.0.1:50051
  {{- if not .root.Values.insecure }}
  - --ca=/run/secrets/oneglance/tls/ca.crt
  {{- if .root.Values.tls.clientCa }}
  - --client-cert=/run/secrets/oneglance/tls/tls.crt
  - --client-key=/run/secrets/oneglance/tls/tls.key
  {{- end }}
  {{- end }}
  {{- range .more }}
  - {{ . }}
  {{- end }}
{{- end }}

{{- define "oneglance.check" -}}
{{- if .Values.servers.replicas }}
{{- if not .Values.servers.tokenSecret }}{{ fail "servers.tokenSecret: the name of a Secret with share-token, which the servers show to the keeper" }}{{ end }}
{{- if or .Values.settings.workers .Values.servers.settings.workers }}{{ fail "settings.workers: one process a pod where there are servers; servers.replicas says how many" }}{{ end }}
{{- end }}
{{- with .Values.milvus }}
{{- if and (not .uri) (or .tokenSecret .caSecret .clientSecret) }}{{ fail "milvus.uri: where it is, as milvus+tls://HOST:PORT/DATABASE" }}{{ end }}
{{- if and .caSecret (hasPrefix "milvus:" .uri) }}{{ fail "milvus.caSecret: milvus:// is without TLS; milvus+tls://HOST:PORT/DATABASE" }}{{ end }}
{{- if and .clientSecret (not .caSecret) }}{{ fail "milvus.caSecret: where there is a clientSecret" }}{{ end }}
{{- end }}
{{- if not .Values.insecure }}
{{- if not .Values.tls.secret }}{{ fail "tls.secret: the name of a Secret with tls.crt, tls.key and ca.crt (or insecure: true, where a mesh keeps strangers out)" }}{{ end }}
{{- if not .Values.policy }}{{ fail "policy: who may do what, as docs/security.md says (or insecure: true)" }}{{ end }}
{{- end }}
{{- end }}
