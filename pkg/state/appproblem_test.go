package state_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

func TestAppProblem_TwoRealmsAndNoAnswerBetween(t *testing.T) {
	t.Parallel()
	api := state.AppRefusal{By: state.RefusedByAPI, Message: "3100 ApplicationAuthorizationFailed", TID: "1-a"}
	oauth := state.AppRefusal{By: state.RefusedByOAuth, Message: "invalid_grant"}
	client := state.AppRefusal{By: state.RefusedByOAuth, Message: "invalid_client", App: true}
	type step struct {
		refused string
		how     state.AppRefusal
		answer  state.RefusedBy
		after   time.Duration
	}
	tests := []struct {
		name  string
		steps []step
		want  bool
	}{
		{"one realm, however often", []step{{refused: "1", how: api}, {refused: "1", how: api, after: time.Minute}, {refused: "1", how: api}}, false},
		{"two of two", []step{{refused: "1", how: api}, {refused: "2", how: api, after: 14 * time.Minute}}, true},
		{"two, hours apart", []step{{refused: "1", how: api}, {refused: "2", how: api, after: time.Hour}}, false},
		{"another realm answered between", []step{{refused: "1", how: api}, {answer: state.RefusedByAPI}, {refused: "2", how: api}}, false},
		{"and answered after", []step{{refused: "1", how: api}, {refused: "2", how: api}, {answer: state.RefusedByAPI}}, false},
		{"the token endpoint says nothing about the API", []step{{refused: "1", how: api}, {answer: state.RefusedByOAuth}, {refused: "2", how: api}}, true},
		{"an access token works on with wrong keys", []step{{refused: "1", how: oauth}, {answer: state.RefusedByAPI}, {refused: "2", how: oauth}}, true},
		{"one by each", []step{{refused: "1", how: oauth}, {refused: "2", how: api}}, false},
		{"five of five", []step{{refused: "1", how: oauth}, {refused: "2", how: oauth}, {refused: "3", how: oauth}, {refused: "4", how: oauth}, {refused: "5", how: oauth}}, true},
		{"the answer names the app", []step{{refused: "1", how: client}}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			now := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
			store, err := state.Open(t.Context(), state.Options{Config: at(embedded(t)), Now: func() time.Time { return now }})
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, store.Close()) })
			for _, x := range tt.steps {
				now = now.Add(x.after)
				if x.answer != "" {
					_, err := store.NoteAnswered(t.Context(), "books", x.answer)
					require.NoError(t, err)
					continue
				}
				_, err := store.NoteRefused(t.Context(), "books", x.refused, x.how)
				require.NoError(t, err)
			}
			p, err := store.AppProblem(t.Context(), "books")
			require.NoError(t, err)
			require.Equal(t, tt.want, p.Found())
			if tt.want {
				last := tt.steps[len(tt.steps)-1].how
				require.Equal(t, last.By, p.By)
				require.Equal(t, last.Message, p.Message)
				require.Equal(t, last.TID, p.TID)
				require.Equal(t, now, p.Last)
				require.False(t, p.Since.After(now))
			}
			other, err := store.AppProblem(t.Context(), "other")
			require.NoError(t, err)
			require.False(t, other.Found())
		})
	}
}
