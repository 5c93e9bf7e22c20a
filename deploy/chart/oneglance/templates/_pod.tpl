# The pod of a server: (dict "root" . "keeper" true "of" .Values) of the one that keeps the galleries, of the others with
# "keeper" false and "of" .Values.servers.
{{- define "oneglance.pod" -}}
{{- $ := .root }}
automountServiceAccountToken: false
enableServiceLinks: false
terminationGracePeriodSeconds: 60
{{- with $.Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
securityContext: {{- include "oneglance.podSecurity" $ | nindent 2 }}
containers:
  - name: oneglance
    image: {{ include "oneglance.image" $ | quote }}
    imagePullPolicy: {{ $.Values.image.pullPolicy }}
    args: [serve, --config=/etc/oneglance/oneglance.toml]
    env:
      - name: ONEGLANCE_LISTEN
        value: 0.0.0.0:50051
      {{- if .keeper }}
      - name: ONEGLANCE_DATA_DIR
        value: /data/store
      {{- include "oneglance.masterKeyEnv" $ | nindent 6 }}
      {{- end }}
    ports:
      - {name: grpc, containerPort: 50051}
      {{- if $.Values.metrics.enabled }}
      - {name: metrics, containerPort: 9464}
      {{- end }}
      {{- if and .keeper $.Values.servers.replicas }}
      - {name: share, containerPort: 50061}
      {{- end }}
    # Galleries are checked and loaded first; a store of an earlier version is converted: up to 30 minutes. Others wait
    # for the one that does.
    startupProbe:
      exec: {{- include "oneglance.probe" (dict "root" $ "more" (list "--wait=4")) | nindent 8 }}
      periodSeconds: 10
      timeoutSeconds: 10
      failureThreshold: 180
    readinessProbe:
      exec: {{- include "oneglance.probe" (dict "root" $ "more" (list "--wait=4" "--service=oneglance.v1.IdentificationService")) | nindent 8 }}
      periodSeconds: 10
      timeoutSeconds: 10
      failureThreshold: 2
    # That it answers at all: a full disk is not cured by a restart.
    livenessProbe:
      exec: {{- include "oneglance.probe" (dict "root" $ "more" (list "--wait=15" "--live")) | nindent 8 }}
      periodSeconds: 30
      timeoutSeconds: 20
      failureThreshold: 4
    securityContext: {{- include "oneglance.containerSecurity" $ | nindent 6 }}
    resources:
      {{- $limits := .of.resources.limits | default dict }}
      {{- if .of.gpu }}{{ $limits = merge (dict "nvidia.com/gpu" .of.gpu) $limits }}{{ end }}
      {{- with .of.resources.requests }}
      requests: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $limits }}
      limits: {{- toYaml . | nindent 8 }}
      {{- end }}
    volumeMounts:
      {{- if .keeper }}
      - {name: data, mountPath: /data}
      {{- end }}
      - {name: config, mountPath: /etc/oneglance, readOnly: true}
      - {name: tmp, mountPath: /tmp}
      {{- range $name, $secret := fromYaml (include "oneglance.secrets" .) }}
      - {name: {{ $name }}, mountPath: /run/secrets/oneglance/{{ $name }}, readOnly: true}
      {{- end }}
      {{- if and .keeper $.Values.backups.size }}
      - {name: backups, mountPath: /backups}
      {{- end }}
volumes:
  {{- if .keeper }}
  - name: data
    persistentVolumeClaim: {claimName: {{ include "oneglance.claim" $ }}}
  {{- end }}
  - name: config
    configMap: {name: {{ include "oneglance.name" $ }}{{ if not .keeper }}-servers{{ end }}}
  - name: tmp
    emptyDir: {sizeLimit: 64Mi}
  {{- range $name, $secret := fromYaml (include "oneglance.secrets" .) }}
  - name: {{ $name }}
    secret: {secretName: {{ $secret }}, defaultMode: 0440}
  {{- end }}
  {{- if and .keeper $.Values.backups.size }}
  - name: backups
    persistentVolumeClaim: {claimName: {{ include "oneglance.name" $ }}-backups}
  {{- end }}
{{- with .of.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .of.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .of.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

# Secrets of a pod, by the folder of /run/secrets/oneglance where they are.
{{- define "oneglance.secrets" -}}
{{- $ := .root }}
{{- if not $.Values.insecure }}
tls: {{ $.Values.tls.secret }}
{{- end }}
{{- if $.Values.servers.replicas }}
share-token: {{ $.Values.servers.tokenSecret }}
{{- end }}
{{- if .keeper }}
{{- with $.Values.masterKey.secret }}
master-key: {{ . }}
{{- end }}
{{- with $.Values.milvus.tokenSecret }}
milvus-token: {{ . }}
{{- end }}
{{- with $.Values.milvus.caSecret }}
milvus-ca: {{ . }}
{{- end }}
{{- with $.Values.milvus.clientSecret }}
milvus-client: {{ . }}
{{- end }}
{{- end }}
{{- end }}
