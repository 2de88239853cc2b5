{{/*
The parts of a model's Ray cluster. All take (dict "root" $ "component" "segmenter" "model"
.Values.segmenter).
*/}}

{{/* What a cluster hosts: itself, and the tracker beside the segmenter. A list as JSON. */}}
{{- define "limelight.hosted" -}}
{{- if and (eq .component "segmenter") .root.Values.tracker.enabled -}}
{{- list .component "tracker" | toJson -}}
{{- else -}}
{{- list .component | toJson -}}
{{- end -}}
{{- end -}}

{{/* Seconds a pod and an old cluster get: those of the longest drain of what they host. */}}
{{- define "limelight.rayGraceSeconds" -}}
{{- $longest := int .model.drainSeconds -}}
{{- range include "limelight.hosted" . | fromJsonArray -}}
{{- $longest = max $longest (int (index $.root.Values .).drainSeconds) -}}
{{- end -}}
{{- include "limelight.graceSeconds" (dict "drainSeconds" $longest) -}}
{{- end -}}

{{/* An application's arguments, which are its service's settings: (dict "root" $ "model" ...). */}}
{{- define "limelight.serveArguments" -}}
{{- $model := .model -}}
{{- $args := dict
  "min_replicas" (int $model.replicas.min)
  "max_replicas" (int $model.replicas.max)
  "replica_cpus" $model.replicaCpus
  "replica_gpus" $model.replicaGpus
  "cold_start_s" $model.coldStartSeconds
  "drain_s" $model.drainSeconds
-}}
{{- with .root.Values.tracing.endpoint }}{{ $_ := set $args "otlp_endpoint" . }}{{ end -}}
{{- with $model.model }}{{ $_ := set $args "model" . }}{{ end -}}
{{- toYaml (merge (deepCopy $model.settings) $args) -}}
{{- end -}}

{{/* Serve's configuration: an application a service. */}}
{{- define "limelight.serveConfig" -}}
{{- $hosted := include "limelight.hosted" . | fromJsonArray -}}
proxy_location: EveryNode
http_options: {host: 0.0.0.0, port: 8000}
grpc_options:
  port: 9000
  grpc_servicer_functions:
    {{- range $path := .root.Files.Get "files/servicers.json" | fromJsonArray }}
    {{- range $name := append $hosted "replica" }}
    {{- if contains (printf ".%s_pb2" $name) $path }}
    - {{ $path }}
    {{- end }}
    {{- end }}
    {{- end }}
applications:
  {{- range $name := $hosted }}
  - name: {{ $name }}
    import_path: services.{{ $name }}.app:build
    route_prefix: /{{ $name }}
    args: {{- include "limelight.serveArguments" (dict "root" $.root "model" (index $.root.Values $name)) | nindent 6 }}
  {{- end }}
{{- end -}}

{{/* The environment: the runtime profile that everything is tested with, and where models are. */}}
{{- define "limelight.rayEnv" -}}
{{- range $name, $value := .root.Files.Get "files/runtime.json" | fromJson }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
# Ray's own processes write to the same output as the replicas, and at length.
- {name: RAY_BACKEND_LOG_LEVEL, value: warning}
{{- if .root.Values.models.offline }}
- {name: HF_HUB_OFFLINE, value: "1"}
{{- end }}
{{- with .root.Values.models.cacheClaim }}
- {name: HF_HOME, value: /models}
{{- end }}
{{- with .root.Values.models.hubToken }}
{{- if .secret }}
- name: HF_TOKEN
  valueFrom: {secretKeyRef: {name: {{ .secret }}, key: {{ .key }} }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "limelight.rayMounts" -}}
- {name: tmp, mountPath: /tmp}
- {name: shm, mountPath: /dev/shm}
{{- if .root.Values.models.cacheClaim }}
- {name: models, mountPath: /models}
{{- end }}
{{- end -}}

{{- define "limelight.rayVolumes" -}}
# Ray's logs and sockets; what torch compiles.
- {name: tmp, emptyDir: {} }
- {name: shm, emptyDir: {medium: Memory, sizeLimit: {{ .model.sharedMemory }} } }
{{- with .root.Values.models.cacheClaim }}
- {name: models, persistentVolumeClaim: {claimName: {{ . }} } }
{{- end }}
{{- end -}}

{{/* What both kinds of pod have in common. */}}
{{- define "limelight.rayPod" -}}
serviceAccountName: {{ include "limelight.name" .root }}-models
{{- include "limelight.pullSecrets" .root }}
securityContext: {{- include "limelight.podSecurity" .root | nindent 2 }}
volumes: {{- include "limelight.rayVolumes" . | nindent 2 }}
{{- end -}}

{{- define "limelight.rayContainer" -}}
image: {{ include "limelight.image" (dict "root" .root "image" .root.Values.models.image) }}{{ ternary "-cuda" "" (eq .root.Values.models.variant "cuda") }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
securityContext: {{- include "limelight.containerSecurity" .root | nindent 2 }}
env: {{- include "limelight.rayEnv" . | trim | nindent 2 }}
volumeMounts: {{- include "limelight.rayMounts" . | nindent 2 }}
{{- end -}}

{{/* A worker's resources, its GPUs added to requests and limits. */}}
{{- define "limelight.workerResources" -}}
{{- $resources := deepCopy .resources -}}
{{- if .gpus -}}
{{- range $kind := list "requests" "limits" -}}
{{- $_ := set (index $resources $kind) $.gpuResource (int $.gpus) -}}
{{- end -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end -}}

{{/* The GPU's taint, and what is asked for besides. */}}
{{- define "limelight.workerTolerations" -}}
{{- $tolerations := .tolerations -}}
{{- if .gpus -}}
{{- $tolerations = prepend $tolerations (dict "key" .gpuResource "operator" "Exists" "effect" "NoSchedule") -}}
{{- end -}}
{{- toYaml $tolerations -}}
{{- end -}}

{{/* Bytes of Ray's object store: four fifths of the shared memory, given as Mi or Gi. */}}
{{- define "limelight.storeBytes" -}}
{{- $mib := ternary (mul 1024 (trimSuffix "Gi" . | int)) (trimSuffix "Mi" . | int) (hasSuffix "Gi" .) -}}
{{- div (mul (int64 $mib) 1048576 4) 5 -}}
{{- end -}}
