{{/* Names, labels and security settings of both kinds of pods. Call with (dict "root" $ "part" "server"|"cache"). */}}
{{- define "bindserve.name" -}}
{{ printf "%s-%s" (.root.Release.Name | trunc 50 | trimSuffix "-") .part }}
{{- end }}

{{- define "bindserve.selector" -}}
app.kubernetes.io/name: bindserve
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end }}

{{- define "bindserve.labels" -}}
{{ include "bindserve.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{- define "bindserve.image" -}}
{{ .root.Values.image.repository }}:{{ .root.Values.image.tag }}{{ with .root.Values.image.digest }}@{{ . }}{{ end }}
{{- end }}

{{- define "bindserve.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "bindserve.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: 10001
capabilities: {drop: [ALL]}
{{- end }}

{{/* Spread replicas over nodes, so that the failure of a node stops only one of them. */}}
{{- define "bindserve.spread" -}}
- maxSkew: 1
  topologyKey: kubernetes.io/hostname
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels: {{- include "bindserve.selector" . | nindent 6 }}
{{- end }}
