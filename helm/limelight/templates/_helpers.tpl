{{/* The name that all objects begin with. */}}
{{- define "limelight.name" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains "limelight" .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-limelight" .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What selects a component's pods: (dict "root" $ "component" "gateway"). */}}
{{- define "limelight.selector" -}}
app.kubernetes.io/name: limelight
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* The labels of a component's objects. */}}
{{- define "limelight.labels" -}}
{{ include "limelight.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{/* An image: (dict "root" $ "image" "limelight-gateway"). */}}
{{- define "limelight.image" -}}
{{- printf "%s%s:%s" .root.Values.image.registry .image (default .root.Chart.AppVersion .root.Values.image.tag) -}}
{{- end -}}

{{/* How every pod runs; `restricted` of the Pod Security Standards asks for it. */}}
{{- define "limelight.podSecurity" -}}
runAsNonRoot: true
runAsUser: 1000
runAsGroup: 1000
fsGroup: 1000
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* How every container runs. */}}
{{- define "limelight.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "limelight.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* Seconds a pod gets to end: what it drains in, and time to notice and to leave. */}}
{{- define "limelight.graceSeconds" -}}
{{- add (int .drainSeconds) 15 -}}
{{- end -}}

{{/* A setting as an environment variable: helm would write 536870912 as 5.36870912e+08. */}}
{{- define "limelight.setting" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) -}}
{{- int64 . | quote -}}
{{- else -}}
{{- . | quote -}}
{{- end -}}
{{- end -}}

{{/* Seconds between leaving the Service and SIGTERM: gRPC lets a connection grow a tenth older. */}}
{{- define "limelight.leaveSeconds" -}}
{{- add (ceil (mulf .connectionSeconds 1.1)) 3 -}}
{{- end -}}
