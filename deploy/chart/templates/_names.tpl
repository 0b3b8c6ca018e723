{{- define "fetch.name" -}}
{{- if contains "fetch" .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-fetch" .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "fetch.selector" -}}
app.kubernetes.io/name: fetch
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "fetch.labels" -}}
{{ include "fetch.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: etcd
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "fetch.secret" -}}
{{- .Values.certificates.secret | default (printf "%s-server" (include "fetch.name" .)) -}}
{{- end -}}

{{- define "fetch.toml" -}}
{{- if kindIs "slice" . -}}
[{{- range $index, $item := . -}}{{- if $index }}, {{ end }}{{ $item | toJson }}{{- end -}}]
{{- else if kindIs "float64" . -}}
{{ int64 . }}
{{- else -}}
{{ . | toJson }}
{{- end -}}
{{- end -}}
