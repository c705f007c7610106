module github.com/ledgerfeed/ledgerfeed/services/ledgerfeed

go 1.26.0

require (
	github.com/ledgerfeed/ledgerfeed/pkg v0.0.0
	github.com/ledgerfeed/ledgerfeed/proto v0.0.0
	github.com/ledgerfeed/ledgerfeed/services/ingress v0.0.0
	github.com/ledgerfeed/ledgerfeed/services/processor v0.0.0
	github.com/ledgerfeed/ledgerfeed/services/reconciler v0.0.0
)

require (
	github.com/alecthomas/kong v1.17.0 // indirect
	github.com/google/go-cmp v0.7.0 // indirect
	github.com/jackc/pgpassfile v1.0.0 // indirect
	github.com/jackc/pgservicefile v0.0.0-20240606120523-5a60cdf6a761 // indirect
	github.com/jackc/pgx/v5 v5.12.0 // indirect
	github.com/mitchellh/colorstring v0.0.0-20190213212951-d06e56a500db // indirect
	github.com/rivo/uniseg v0.4.7 // indirect
	github.com/rogpeppe/go-internal v1.16.0 // indirect
	github.com/schollz/progressbar/v3 v3.19.1 // indirect
	github.com/stretchr/testify v1.12.1 // indirect
	go.uber.org/multierr v1.11.0 // indirect
	go.uber.org/zap v1.28.0 // indirect
	golang.org/x/sync v0.24.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/term v0.47.0 // indirect
	golang.org/x/text v0.43.0 // indirect
)

replace github.com/ledgerfeed/ledgerfeed/proto => ../../proto

replace github.com/ledgerfeed/ledgerfeed/pkg => ../../pkg

replace github.com/ledgerfeed/ledgerfeed/services/ingress => ../ingress

replace github.com/ledgerfeed/ledgerfeed/services/processor => ../processor

replace github.com/ledgerfeed/ledgerfeed/services/reconciler => ../reconciler
