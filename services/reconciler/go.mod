module github.com/ledgerfeed/ledgerfeed/services/reconciler

go 1.26.0

require (
	github.com/ledgerfeed/ledgerfeed/pkg v0.0.0
	github.com/ledgerfeed/ledgerfeed/proto v0.0.0
)

require (
	github.com/prometheus/client_golang v1.25.0 // indirect
	github.com/stretchr/testify v1.12.1 // indirect
	go.uber.org/goleak v1.3.0 // indirect
	go.uber.org/multierr v1.10.0 // indirect
	go.uber.org/zap v1.28.0 // indirect
	golang.org/x/sync v0.24.0 // indirect
	pgregory.net/rapid v1.3.0 // indirect
)

replace github.com/ledgerfeed/ledgerfeed/proto => ../../proto

replace github.com/ledgerfeed/ledgerfeed/pkg => ../../pkg
