package k8s_test

import (
	"net/url"
	"regexp"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

type networkingTLS = networkingv1.IngressTLS

type secretKind = corev1.Secret

// network checks that everything is denied which is not allowed, and that every
// address in a container's environment, arguments or mounted secrets that is a
// service here can be reached under the policies.
func (c *cluster) network(r *report) {
	deny := false
	for _, p := range c.policies {
		if len(p.Spec.PodSelector.MatchLabels)+len(p.Spec.PodSelector.MatchExpressions) == 0 && len(p.Spec.PolicyTypes) == 2 && p.Spec.Egress == nil && p.Spec.Ingress == nil {
			deny = true
			continue
		}
		pods := c.behind(func(l map[string]string) bool { return matches(&p.Spec.PodSelector, l) })
		if len(pods) == 0 && !c.elsewhere(p.Name) {
			r.add("NetworkPolicy %s: selects no pod", p.Name)
		}
		for _, rule := range p.Spec.Ingress {
			for _, port := range rule.Ports {
				for _, w := range pods {
					if port.Port != nil && port.Port.Type == intstr.String {
						c.port(r, "NetworkPolicy "+p.Name, w, *port.Port)
					}
				}
			}
		}
	}
	if !deny {
		r.add("NetworkPolicy: nothing denies what is not allowed")
	}
	for _, w := range c.workloads {
		for _, address := range c.addresses(w) {
			c.reach(r, w, address)
		}
	}
}

// elsewhere reports whether a policy is about a server that this overlay leaves out.
func (c *cluster) elsewhere(policy string) bool {
	return strings.HasPrefix(policy, "to-") && len(c.workloads) == len(c.components())+len(c.jobs())
}

// addresses are the URLs that the containers are given.
func (c *cluster) addresses(w workload) (urls []*url.URL) {
	var texts []string
	for _, container := range w.pod.Spec.Containers {
		for name, value := range c.environment(w, container) {
			if foreign(name, w.pod.Labels["app.kubernetes.io/component"]) {
				continue
			}
			texts = append(texts, value)
		}
		texts = append(texts, container.Args...)
	}
	for _, v := range w.pod.Spec.Volumes {
		if v.Secret == nil {
			continue
		}
		for _, item := range v.Secret.Items {
			if s := c.secret(v.Secret.SecretName); s != nil {
				texts = append(texts, string(s.Data[item.Key]))
			}
		}
	}
	for _, word := range address.FindAllString(strings.Join(texts, "\n"), -1) {
		u, err := url.Parse(word)
		if err != nil {
			continue
		}
		urls = append(urls, u)
		for _, more := range u.Query()["addr"] {
			urls = append(urls, &url.URL{Scheme: u.Scheme, Host: more})
		}
	}
	return urls
}

// foreign reports whether a setting is another service's: they share one config map. The
// ingress and the job call nobody at Intuit.
func foreign(setting, component string) bool {
	switch {
	case strings.HasPrefix(setting, "LEDGERFEED_QBO_"):
		return component == "ingress" || component == "setup"
	case strings.HasPrefix(setting, "LEDGERFEED_PROCESSOR_"):
		return component != "processor" && component != "setup"
	case strings.HasPrefix(setting, "LEDGERFEED_NATS_MONITOR_"):
		return component == "setup"
	}
	return false
}

// address is a URL in a longer text, such as a list or the setting of a sink.
var address = regexp.MustCompile(`[a-z]+://[^\s,"]+`)

var defaultPorts = map[string]string{"http": "80", "https": "443"}

// reach checks a connection to a service of the overlay.
func (c *cluster) reach(r *report, from workload, u *url.URL) {
	host, text := u.Hostname(), u.Port()
	if text == "" {
		text = defaultPorts[u.Scheme]
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		r.add("%s %s: %s names no port", from.kind, from.name, u.Redacted())
		return
	}
	parts := strings.Split(host, ".")
	service := c.service(parts[0])
	if len(parts) > 1 && service == nil {
		service = c.service(parts[1]) // a pod of a StatefulSet
	}
	if service == nil {
		if len(parts) <= 2 && !strings.Contains(host, "example") && host != "127.0.0.1" {
			r.add("%s %s: there is no service %s", from.kind, from.name, host)
		}
		return
	}
	for _, to := range c.behind(func(l map[string]string) bool { return set(service.Spec.Selector).AsSelector().Matches(set(l)) }) {
		target := int32(0)
		for _, p := range service.Spec.Ports {
			if p.Port == int32(port) {
				target = c.port(r, "Service "+service.Name, to, p.TargetPort)
			}
		}
		switch {
		case target == 0:
			r.add("%s %s: service %s has no port %d", from.kind, from.name, service.Name, port)
		case !c.allowed(from, to, target, networkingv1.PolicyTypeEgress):
			r.add("%s %s: no policy lets it go to %s:%d", from.kind, from.name, host, port)
		case !c.allowed(from, to, target, networkingv1.PolicyTypeIngress):
			r.add("%s %s: no policy lets it in at %s:%d", from.kind, from.name, host, port)
		}
	}
}

// allowed evaluates the policies of one direction as a network plugin does.
func (c *cluster) allowed(from, to workload, port int32, direction networkingv1.PolicyType) bool {
	own, other := from, to
	if direction == networkingv1.PolicyTypeIngress {
		own, other = to, from
	}
	for _, p := range c.policies {
		if !matches(&p.Spec.PodSelector, own.pod.Labels) {
			continue
		}
		if direction == networkingv1.PolicyTypeEgress {
			for _, rule := range p.Spec.Egress {
				if peers(rule.To, other) && ports(rule.Ports, to, port) {
					return true
				}
			}
			continue
		}
		for _, rule := range p.Spec.Ingress {
			if peers(rule.From, other) && ports(rule.Ports, to, port) {
				return true
			}
		}
	}
	return false
}

func peers(peers []networkingv1.NetworkPolicyPeer, w workload) bool {
	for _, p := range peers {
		if p.NamespaceSelector == nil && matches(p.PodSelector, w.pod.Labels) {
			return true
		}
	}
	return len(peers) == 0
}

func ports(ports []networkingv1.NetworkPolicyPort, to workload, want int32) bool {
	for _, p := range ports {
		var known report
		if p.Port == nil || new(cluster).port(&known, "", to, *p.Port) == want {
			return true
		}
	}
	return len(ports) == 0
}

// environment is what a container finds in its environment, secrets included.
func (c *cluster) environment(w workload, container corev1.Container) map[string]string {
	env := map[string]string{}
	for _, from := range container.EnvFrom {
		if from.ConfigMapRef != nil {
			if m := c.configMap(from.ConfigMapRef.Name); m != nil {
				for k, v := range m.Data {
					env[k] = v
				}
			}
		}
	}
	for _, e := range container.Env {
		env[e.Name] = e.Value
		if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil {
			if s := c.secret(e.ValueFrom.SecretKeyRef.Name); s != nil {
				env[e.Name] = fillIn(e.ValueFrom.SecretKeyRef.Name, e.ValueFrom.SecretKeyRef.Key, string(s.Data[e.ValueFrom.SecretKeyRef.Key]))
			}
		}
	}
	return env
}
