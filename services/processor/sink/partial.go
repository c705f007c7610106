package sink

import "errors"

// PartialError is what Write returns when some of its changes were taken and
// others not, so that what was taken is not sent again.
type PartialError struct {
	// Errs has an error for each change, nil for those that were taken.
	Errs []error
}

func (e *PartialError) Error() string { return errors.Join(e.Errs...).Error() }
func (e *PartialError) Unwrap() []error {
	var errs []error
	for _, err := range e.Errs {
		if err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// Partial is nil if all errs are, the one error if all of them are it, and else a
// *PartialError.
func Partial(errs []error) error {
	failed := 0
	for _, err := range errs {
		if err != nil {
			failed++
		}
	}
	switch failed {
	case 0:
		return nil
	case len(errs):
		if len(errs) == 1 {
			return errs[0]
		}
	}
	return &PartialError{Errs: errs}
}
