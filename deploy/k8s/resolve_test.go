package k8s_test

import (
	"bytes"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	psaapi "k8s.io/pod-security-admission/api"
	psapolicy "k8s.io/pod-security-admission/policy"
)

func set(m map[string]string) labels.Set { return labels.Set(m) }

// documents cuts a file at its "---" lines.
func documents(text []byte) (parts [][]byte) {
	return bytes.Split(append([]byte("\n"), text...), []byte("\n---\n"))
}

// report collects what is wrong.
type report struct{ problems []string }

func (r *report) add(format string, args ...any) {
	r.problems = append(r.problems, fmt.Sprintf(format, args...))
}

// restricted holds every pod against the strictest Pod Security Standard, and the
// namespace to enforcing it.
func (c *cluster) restricted(r *report) {
	if c.namespace == nil || c.namespace.Labels["pod-security.kubernetes.io/enforce"] != string(psaapi.LevelRestricted) {
		r.add("Namespace: does not enforce the restricted standard")
	}
	evaluator, err := psapolicy.NewEvaluator(psapolicy.DefaultChecks(), nil)
	if err != nil {
		r.add("pod security: %v", err)
		return
	}
	level := psaapi.LevelVersion{Level: psaapi.LevelRestricted, Version: psaapi.LatestVersion()}
	for _, w := range c.workloads {
		result := psapolicy.AggregateCheckResults(evaluator.EvaluatePod(level, &w.pod.ObjectMeta, &w.pod.Spec))
		if !result.Allowed {
			r.add("%s %s: not restricted: %s", w.kind, w.name, result.ForbiddenDetail())
		}
		for _, container := range w.pod.Spec.Containers {
			if s := container.SecurityContext; s == nil || s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem {
				r.add("%s %s: container %s may write to its root", w.kind, w.name, container.Name)
			}
			if container.Resources.Limits.Memory().IsZero() || container.Resources.Requests.Cpu().IsZero() {
				r.add("%s %s: container %s has no memory limit or no CPU request", w.kind, w.name, container.Name)
			}
		}
	}
}

// references resolves what the objects name.
func (c *cluster) references(r *report) {
	for _, w := range c.workloads {
		where := w.kind + " " + w.name
		c.account(r, where, w)
		for _, v := range w.pod.Spec.Volumes {
			c.volume(r, where, v)
		}
		for _, container := range w.pod.Spec.Containers {
			c.container(r, where, w, container)
		}
	}
	c.exposed(r)
	c.targets(r)
}

func (c *cluster) account(r *report, where string, w workload) {
	if w.pod.Spec.AutomountServiceAccountToken == nil || *w.pod.Spec.AutomountServiceAccountToken {
		r.add("%s: the pod gets a token of the API server", where)
	}
	for _, a := range c.accounts {
		if a.Name == w.pod.Spec.ServiceAccountName {
			if a.AutomountServiceAccountToken == nil || *a.AutomountServiceAccountToken {
				r.add("ServiceAccount %s: hands out tokens", a.Name)
			}
			return
		}
	}
	r.add("%s: service account %q is missing", where, w.pod.Spec.ServiceAccountName)
}

func (c *cluster) volume(r *report, where string, v corev1.Volume) {
	switch {
	case v.ConfigMap != nil:
		if c.configMap(v.ConfigMap.Name) == nil {
			r.add("%s: config map %q is missing", where, v.ConfigMap.Name)
		}
	case v.Secret != nil:
		for _, item := range v.Secret.Items {
			c.secretKey(r, where, v.Secret.SecretName, item.Key)
		}
		if len(v.Secret.Items) == 0 {
			r.add("%s: volume %s takes all of secret %s", where, v.Name, v.Secret.SecretName)
		}
	case v.PersistentVolumeClaim != nil:
		if !slices.ContainsFunc(c.claims, func(p *corev1.PersistentVolumeClaim) bool { return p.Name == v.PersistentVolumeClaim.ClaimName }) {
			r.add("%s: claim %q is missing", where, v.PersistentVolumeClaim.ClaimName)
		}
	case v.EmptyDir != nil:
	default:
		r.add("%s: volume %s is of a kind nobody here checks", where, v.Name)
	}
}

func (c *cluster) configMap(name string) *corev1.ConfigMap {
	for _, m := range c.configMaps {
		if m.Name == name {
			return m
		}
	}
	return nil
}

func (c *cluster) secret(name string) *corev1.Secret {
	for _, s := range c.secrets {
		if s.Name == name {
			return s
		}
	}
	return nil
}

func (c *cluster) secretKey(r *report, where, name, key string) {
	s := c.secret(name)
	if s == nil {
		r.add("%s: secret %q is missing", where, name)
		return
	}
	if _, ok := s.Data[key]; !ok {
		r.add("%s: secret %s has no key %q", where, name, key)
	}
}

func (c *cluster) container(r *report, where string, w workload, container corev1.Container) {
	volumes := map[string]bool{}
	for _, v := range w.pod.Spec.Volumes {
		volumes[v.Name] = true
	}
	for _, claim := range w.claims {
		volumes[claim.Name] = true
	}
	for _, m := range container.VolumeMounts {
		if !volumes[m.Name] {
			r.add("%s: mount %s has no volume", where, m.Name)
		}
	}
	for _, from := range container.EnvFrom {
		if from.ConfigMapRef == nil || c.configMap(from.ConfigMapRef.Name) == nil {
			r.add("%s: the config map of its environment is missing", where)
		}
	}
	for _, e := range container.Env {
		if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil {
			c.secretKey(r, where, e.ValueFrom.SecretKeyRef.Name, e.ValueFrom.SecretKeyRef.Key)
		}
	}
	for name, probe := range map[string]*corev1.Probe{"startup": container.StartupProbe, "readiness": container.ReadinessProbe, "liveness": container.LivenessProbe} {
		switch {
		case probe == nil:
			if name == "readiness" && w.kind != kindJob {
				r.add("%s: no readiness probe", where)
			}
		case probe.HTTPGet != nil:
			c.port(r, where+": "+name+" probe", w, probe.HTTPGet.Port)
		case probe.TCPSocket != nil:
			c.port(r, where+": "+name+" probe", w, probe.TCPSocket.Port)
		}
	}
}

// port reports a port that no container of the workload has, and returns its number.
func (c *cluster) port(r *report, where string, w workload, port intstr.IntOrString) int32 {
	for _, container := range w.pod.Spec.Containers {
		for _, p := range container.Ports {
			if port.Type == intstr.String && p.Name == port.StrVal || port.Type == intstr.Int && p.ContainerPort == port.IntVal {
				return p.ContainerPort
			}
		}
	}
	r.add("%s: port %s is none of %s %s", where, port.String(), w.kind, w.name)
	return 0
}

// behind are the workloads with these labels.
func (c *cluster) behind(match func(map[string]string) bool) (found []workload) {
	for _, w := range c.workloads {
		if match(w.pod.Labels) {
			found = append(found, w)
		}
	}
	return found
}

// exposed resolves services, ingresses and monitors.
func (c *cluster) exposed(r *report) {
	for _, s := range c.services {
		pods := c.behind(func(l map[string]string) bool { return labels.SelectorFromSet(s.Spec.Selector).Matches(set(l)) })
		if len(pods) == 0 || len(s.Spec.Selector) == 0 {
			r.add("Service %s: selects no pod", s.Name)
		}
		for _, w := range pods {
			for _, p := range s.Spec.Ports {
				c.port(r, "Service "+s.Name, w, p.TargetPort)
			}
		}
	}
	for _, w := range c.workloads {
		if w.kind == "StatefulSet" && c.service(w.name) == nil {
			r.add("StatefulSet %s: its service is missing", w.name)
		}
	}
	for _, i := range c.fronts {
		for _, t := range i.Spec.TLS {
			c.secretKey(r, "Ingress "+i.Name, t.SecretName, corev1.TLSCertKey)
			c.secretKey(r, "Ingress "+i.Name, t.SecretName, corev1.TLSPrivateKeyKey)
		}
		for _, rule := range i.Spec.Rules {
			if !slices.ContainsFunc(i.Spec.TLS, func(t networkingTLS) bool { return slices.Contains(t.Hosts, rule.Host) }) {
				r.add("Ingress %s: host %s has no certificate, and Intuit wants one", i.Name, rule.Host)
			}
			for _, p := range rule.HTTP.Paths {
				b := p.Backend.Service
				s := c.service(b.Name)
				if s == nil || !slices.ContainsFunc(s.Spec.Ports, func(p corev1.ServicePort) bool { return p.Name == b.Port.Name && p.Name != "" }) {
					r.add("Ingress %s: service %s with port %s is missing", i.Name, b.Name, b.Port.Name)
				}
			}
		}
	}
	for _, m := range c.monitors {
		found := 0
		for _, s := range c.services {
			if !matches(&m.Spec.Selector, s.Labels) {
				continue
			}
			found++
			for _, e := range m.Spec.Endpoints {
				if !slices.ContainsFunc(s.Spec.Ports, func(p corev1.ServicePort) bool { return p.Name == e.Port }) {
					r.add("ServiceMonitor %s: service %s has no port %q", m.Name, s.Name, e.Port)
				}
			}
		}
		if services := len(c.components()); found != services {
			r.add("ServiceMonitor %s: finds %d services instead of the %d of the components", m.Name, found, services)
		}
	}
}

func (c *cluster) service(name string) *corev1.Service {
	for _, s := range c.services {
		if s.Name == name {
			return s
		}
	}
	return nil
}

// components are our own workloads, those with an admin endpoint.
func (c *cluster) components() (all []workload) {
	for _, w := range c.behind(func(l map[string]string) bool { return l["app.kubernetes.io/name"] == "ledgerfeed" }) {
		if w.kind != kindJob {
			all = append(all, w)
		}
	}
	return all
}

// jobs are our own workloads that end.
func (c *cluster) jobs() (all []workload) {
	for _, w := range c.workloads {
		if w.kind == kindJob {
			all = append(all, w)
		}
	}
	return all
}

// targets resolves budgets and autoscalers.
func (c *cluster) targets(r *report) {
	for _, b := range c.budgets {
		if len(c.behind(func(l map[string]string) bool { return matches(b.Spec.Selector, l) })) != 1 {
			r.add("PodDisruptionBudget %s: is about no workload, or several", b.Name)
		}
	}
	scaled := map[string]int{}
	for _, s := range c.scalers {
		scaled[s.Spec.ScaleTargetRef.Kind+" "+s.Spec.ScaleTargetRef.Name]++
	}
	for _, s := range c.scaled {
		scaled["Deployment "+s.Spec.ScaleTargetRef.Name]++
	}
	for _, w := range c.workloads {
		name := w.kind + " " + w.name
		if n := scaled[name]; n > 1 || n == 1 && w.replicas != nil {
			r.add("%s: several say how many replicas there are", name)
		}
		delete(scaled, name)
	}
	for name := range scaled {
		r.add("autoscaler: %s is missing", name)
	}
}
