package webhook

import "github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"

// legacy reads eventNotifications. Field names are taken in any case (Intuit's
// pages and SDKs disagree), a single object where an array belongs is read as an
// array of one, and a key given twice adds to the first: nothing is dropped.
func (r *reader) legacy(root value) {
	r.n.Format = Legacy
	for name, v := range root.members() {
		if !name.is("eventNotifications") {
			continue
		}
		for notification := range v.list() {
			r.legacyNotification(notification)
		}
	}
}

// legacyNotification reads the events of one realm.
func (r *reader) legacyNotification(v value) {
	if v.kind() != '{' {
		r.reject(v, "", "the notification is not an object")
		return
	}
	var it item // only for the realm
	var changes []value
	for name, field := range v.members() {
		switch {
		case name.is("realmId"):
			r.need(&it, &it.event.RealmID, "realmId", field)
		case name.is("dataChangeEvent"):
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
		r.reject(v, it.event.RealmID, it.wrong)
		return
	}
	for _, change := range changes {
		r.legacyChange(it.event.RealmID, change)
	}
}

func (r *reader) legacyChange(realm string, change value) {
	if !change.has("entities") {
		r.reject(change, realm, "the dataChangeEvent has no entities")
		return
	}
	for name, entities := range change.members() {
		if !name.is("entities") {
			continue
		}
		for changed := range entities.list() {
			r.legacyEvent(realm, changed)
		}
	}
}

func (r *reader) legacyEvent(realm string, v value) {
	if v.kind() != '{' {
		r.reject(v, realm, "the entity is not an object")
		return
	}
	it := item{event: Event{RealmID: realm}}
	for name, field := range v.members() {
		switch {
		case name.is("name"):
			r.need(&it, &it.event.Entity, "name", field)
		case name.is("id"):
			r.need(&it, &it.event.EntityID, "id", field)
		case name.is("operation"):
			r.need(&it, &it.operation, "operation", field)
		case name.is("lastUpdated"):
			it.time(field)
		}
	}
	it.event.Entity = entity.Canonical(it.event.Entity)
	r.add(&it, v)
}
