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

{{/* The environment variables of the side models. Their folders are in the volume `sides`. */}}
{{- define "bindserve.sides" -}}
{{- $sides := . }}
{{- range $part := list
  (list "SPEECH_MODEL" .speech "SPEECH_DEVICE")
  (list "OBJECTS" .objects "OBJECTS_DEVICE")
  (list "DETECTOR" .detector "DETECTOR_DEVICE")
  (list "DECODER" .decoder "DECODER_DEVICE") }}
{{- with index $part 1 }}
- {name: BINDSERVE_{{ index $part 0 }}, value: {{ include "bindserve.side" (list (index $part 0) . $sides.claim) | quote }}}
- {name: BINDSERVE_{{ index $part 2 }}, value: {{ $sides.device }}}
{{- end }}
{{- end }}
{{- if .ocr }}
- {name: BINDSERVE_OCR, value: "true"}
- {name: BINDSERVE_OCR_DEVICE, value: {{ .device }}}
{{- end }}
{{- if .voice }}
- {name: BINDSERVE_VOICE, value: "true"}
{{- end }}
{{- with .experts }}
- {name: BINDSERVE_EXPERTS, value: {{ join " " . | quote }}}
{{- end }}
{{- if ne .policy "off" }}
- {name: BINDSERVE_EXPERT_POLICY, value: {{ .policy }}}
{{- end }}
{{- end }}

{{/* The value of a side model's setting: a word or a folder. Call with (list SETTING VALUE CLAIM). */}}
{{- define "bindserve.side" -}}
{{- $value := index . 1 }}
{{- if has (list (index . 0) $value) (list (list "OBJECTS" "detector") (list "DECODER" "model")) }}{{ $value }}
{{- else if index . 2 }}/sides/{{ $value }}
{{- else }}{{ fail "sides.claim: which volume has the folders of the side models?" }}
{{- end }}
{{- end }}

{{/* Spread replicas over nodes, so that the failure of a node stops only one of them. */}}
{{- define "bindserve.spread" -}}
- maxSkew: 1
  topologyKey: kubernetes.io/hostname
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels: {{- include "bindserve.selector" . | nindent 6 }}
{{- end }}
