package webhook

import (
	"strings"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
)

// legacy reads eventNotifications. Field names are taken in any case (Intuit's
// pages and SDKs disagree), a single object where an array belongs is read as an
// array of one, and a key given twice adds to the first: nothing is dropped.
func (n *Notification) legacy(root value) {
	for name, v := range root.members() {
		if !strings.EqualFold(name, "eventNotifications") {
			continue
		}
		for notification := range v.list() {
			n.legacyNotification(notification)
		}
	}
}

// legacyNotification reads the events of one realm.
func (n *Notification) legacyNotification(v value) {
	if v.kind() != '{' {
		n.reject(v, "", "the notification is not an object")
		return
	}
	var it item // only for the realm
	var changes []value
	for name, field := range v.members() {
		switch {
		case strings.EqualFold(name, "realmId"):
			it.need(&it.event.RealmID, "realmId", field)
		case strings.EqualFold(name, "dataChangeEvent"):
			for change := range field.list() {
				changes = append(changes, change)
			}
		}
	}
	it.require(it.event.RealmID, "realm id")
	found := false
	for _, change := range changes {
		found = found || change.has("entities")
	}
	if !found {
		it.reject("the notification has no entities")
	}
	if it.wrong != "" {
		n.reject(v, it.event.RealmID, it.wrong)
		return
	}
	for _, change := range changes {
		n.legacyChange(it.event.RealmID, change)
	}
}

func (n *Notification) legacyChange(realm string, change value) {
	if !change.has("entities") {
		n.reject(change, realm, "the dataChangeEvent has no entities")
		return
	}
	for name, entities := range change.members() {
		if !strings.EqualFold(name, "entities") {
			continue
		}
		for changed := range entities.list() {
			n.legacyEvent(realm, changed)
		}
	}
}

func (n *Notification) legacyEvent(realm string, v value) {
	if v.kind() != '{' {
		n.reject(v, realm, "the entity is not an object")
		return
	}
	it := item{event: Event{RealmID: realm}}
	for name, field := range v.members() {
		switch {
		case strings.EqualFold(name, "name"):
			it.need(&it.event.Entity, "name", field)
		case strings.EqualFold(name, "id"):
			it.need(&it.event.EntityID, "id", field)
		case strings.EqualFold(name, "operation"):
			it.need(&it.operation, "operation", field)
		case strings.EqualFold(name, "lastUpdated"):
			it.time(field)
		case strings.EqualFold(name, "data"):
			it.deletedIn(field)
		case isDeletedID(name):
			it.hint(&it.merged, field)
		}
	}
	it.event.Entity = entity.Canonical(it.event.Entity)
	n.add(&it, v)
}
