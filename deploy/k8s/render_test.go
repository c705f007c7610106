package k8s_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// kindJob is of what ends by itself, and serves nothing.
const kindJob = "Job"

// workload is what runs pods.
type workload struct {
	kind, name string
	replicas   *int32
	pod        corev1.PodTemplateSpec
	claims     []corev1.PersistentVolumeClaim
}

// cluster is everything an overlay makes, decoded.
type cluster struct {
	namespace  *corev1.Namespace
	workloads  []workload
	services   []*corev1.Service
	accounts   []*corev1.ServiceAccount
	configMaps []*corev1.ConfigMap
	secrets    []*corev1.Secret
	claims     []*corev1.PersistentVolumeClaim
	budgets    []*policyv1.PodDisruptionBudget
	policies   []*networkingv1.NetworkPolicy
	fronts     []*networkingv1.Ingress
	scalers    []*autoscalingv2.HorizontalPodAutoscaler
	scaled     []*kedav1alpha1.ScaledObject
	monitors   []*monitoringv1.ServiceMonitor
}

// overlays are the directories of overlays/.
func overlays(t *testing.T) (names []string) {
	t.Helper()
	entries, err := os.ReadDir("overlays")
	require.NoError(t, err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	require.NotEmpty(t, names)
	return names
}

// read renders what is in dir and decodes it: an unknown field, a field given
// twice and an unknown kind are problems.
func read(dir string) (*cluster, []string) {
	rendered, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		return nil, []string{err.Error()}
	}
	c, problems := &cluster{}, []string{}
	for _, r := range rendered.Resources() {
		text, err := r.AsYAML()
		if err == nil {
			err = c.add(text)
		}
		if err != nil {
			problems = append(problems, fmt.Sprintf("%s %s: %v", r.GetKind(), r.GetName(), err))
		}
		if r.GetKind() != "Namespace" && r.GetNamespace() != "ledgerfeed" {
			problems = append(problems, fmt.Sprintf("%s %s: namespace %q", r.GetKind(), r.GetName(), r.GetNamespace()))
		}
	}
	// The secrets that come from outside are listed in a file of their own.
	problems = append(problems, c.addExample(filepath.Join(dir, "secrets.example.yaml"))...)
	return c, problems
}

func decoder() (runtime.Decoder, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, appsv1.AddToScheme, policyv1.AddToScheme, networkingv1.AddToScheme,
		autoscalingv2.AddToScheme, batchv1.AddToScheme, kedav1alpha1.AddToScheme, monitoringv1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	return serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer(), nil
}

func (c *cluster) add(text []byte) error {
	d, err := decoder()
	if err != nil {
		return err
	}
	object, _, err := d.Decode(text, nil, nil)
	if err != nil {
		return err
	}
	switch o := object.(type) {
	case *corev1.Namespace:
		c.namespace = o
	case *appsv1.Deployment:
		c.workloads = append(c.workloads, workload{kind: "Deployment", name: o.Name, replicas: o.Spec.Replicas, pod: o.Spec.Template})
		return selects(o.Spec.Selector, o.Spec.Template.Labels)
	case *appsv1.StatefulSet:
		c.workloads = append(c.workloads, workload{kind: "StatefulSet", name: o.Name, replicas: o.Spec.Replicas, pod: o.Spec.Template, claims: o.Spec.VolumeClaimTemplates})
		return selects(o.Spec.Selector, o.Spec.Template.Labels)
	case *batchv1.Job:
		c.workloads = append(c.workloads, workload{kind: kindJob, name: o.Name, pod: o.Spec.Template})
	case *corev1.Service:
		c.services = append(c.services, o)
	case *corev1.ServiceAccount:
		c.accounts = append(c.accounts, o)
	case *corev1.ConfigMap:
		c.configMaps = append(c.configMaps, o)
	case *corev1.Secret:
		for key, value := range o.StringData {
			if o.Data == nil {
				o.Data = map[string][]byte{}
			}
			o.Data[key] = []byte(value)
		}
		c.secrets = append(c.secrets, o)
	case *corev1.PersistentVolumeClaim:
		c.claims = append(c.claims, o)
	case *policyv1.PodDisruptionBudget:
		c.budgets = append(c.budgets, o)
	case *networkingv1.NetworkPolicy:
		c.policies = append(c.policies, o)
	case *networkingv1.Ingress:
		c.fronts = append(c.fronts, o)
	case *autoscalingv2.HorizontalPodAutoscaler:
		c.scalers = append(c.scalers, o)
	case *kedav1alpha1.ScaledObject:
		c.scaled = append(c.scaled, o)
	case *monitoringv1.ServiceMonitor:
		c.monitors = append(c.monitors, o)
	default:
		return fmt.Errorf("nobody here knows how to check a %T", o)
	}
	return nil
}

func selects(selector *metav1.LabelSelector, labels map[string]string) error {
	if !matches(selector, labels) {
		return fmt.Errorf("its selector %v does not match its own pods %v", selector, labels)
	}
	return nil
}

// matches reports whether a selector takes the labels; none takes nothing.
func matches(selector *metav1.LabelSelector, have map[string]string) bool {
	if selector == nil {
		return false
	}
	s, err := metav1.LabelSelectorAsSelector(selector)
	return err == nil && s.Matches(set(have))
}

// addExample adds the secrets of a file of several documents, if there is one.
func (c *cluster) addExample(name string) (problems []string) {
	text, err := os.ReadFile(name)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return []string{err.Error()}
	}
	for i, document := range documents(text) {
		if err := c.add(document); err != nil {
			problems = append(problems, fmt.Sprintf("%s, document %d: %v", filepath.Base(name), i+1, err))
		}
	}
	return problems
}

// copyTree copies the manifests, so that a test can put a mistake into them.
func copyTree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"base", "components", "overlays"} {
		require.NoError(t, os.CopyFS(filepath.Join(dir, name), os.DirFS(name)))
	}
	return dir
}
