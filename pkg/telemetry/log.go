package telemetry

import (
	"fmt"
	"io"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// LogConfig says how much is logged and in which form.
type LogConfig struct {
	Level  string `koanf:"level" doc:"Minimum log level: debug, info, warn or error."`
	Format string `koanf:"format" doc:"Log format: json (one object per line) or console (for people)."`
}

// DefaultLogConfig logs at info level as JSON.
func DefaultLogConfig() LogConfig { return LogConfig{Level: "info", Format: "json"} }

// Validate names the field and the value that is wrong.
func (c LogConfig) Validate() error {
	if _, err := c.level(); err != nil {
		return err
	}
	if c.Format != "json" && c.Format != "console" {
		return fmt.Errorf("log.format is %q, want json or console", c.Format)
	}
	return nil
}

func (c LogConfig) level() (zapcore.Level, error) {
	switch c.Level {
	case "debug":
		return zapcore.DebugLevel, nil
	case "info":
		return zapcore.InfoLevel, nil
	case "warn":
		return zapcore.WarnLevel, nil
	case "error":
		return zapcore.ErrorLevel, nil
	default:
		return 0, fmt.Errorf("log.level is %q, want debug, info, warn or error", c.Level)
	}
}

// NewLogger returns a logger that writes to w, one line an entry. w is locked,
// so it may be shared; it is never closed. Empty fields of c take their
// defaults. There is no sampling: delivered messages are counted, not logged.
func NewLogger(c LogConfig, w io.Writer) (*zap.Logger, error) {
	if c.Level == "" {
		c.Level = DefaultLogConfig().Level
	}
	if c.Format == "" {
		c.Format = DefaultLogConfig().Format
	}
	if err := c.Validate(); err != nil {
		return nil, err
	}
	level, err := c.level()
	if err != nil {
		return nil, err
	}
	return zap.New(zapcore.NewCore(c.encoder(), zapcore.Lock(zapcore.AddSync(w)), level)), nil
}

func (c LogConfig) encoder() zapcore.Encoder {
	if c.Format == "console" {
		ec := zap.NewDevelopmentEncoderConfig()
		ec.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05.000")
		ec.EncodeLevel = zapcore.LowercaseLevelEncoder
		ec.CallerKey = zapcore.OmitKey
		return zapcore.NewConsoleEncoder(ec)
	}
	ec := zap.NewProductionEncoderConfig()
	ec.TimeKey = "time"
	ec.MessageKey = "message"
	ec.NameKey = "component"
	ec.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	ec.EncodeDuration = zapcore.StringDurationEncoder
	return zapcore.NewJSONEncoder(ec)
}
