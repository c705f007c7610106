package console

import "strings"

// OpenAPI is the document of the API (OpenAPI 3.1), made from the routes.
func OpenAPI() map[string]any {
	paths := map[string]any{}
	for _, r := range routes() {
		if r.api == "" {
			continue
		}
		op := map[string]any{
			"operationId": r.name, "summary": r.summary,
			"responses": map[string]any{
				"200":     answer("Done.", map[string]any{"type": "object"}),
				"default": answer("What went wrong, and what to do.", map[string]any{"$ref": "#/components/schemas/Trouble"}),
			},
		}
		var params []any
		form := map[string]any{}
		for _, p := range r.params {
			text := map[string]any{"type": "string"}
			if p.in == "form" {
				text["description"] = p.doc
				form[p.name] = text
				continue
			}
			params = append(params, map[string]any{"name": p.name, "in": p.in, "required": p.in == "path", "description": p.doc, "schema": text})
		}
		if params != nil {
			op["parameters"] = params
		}
		if len(form) > 0 {
			op["requestBody"] = map[string]any{"content": map[string]any{
				"application/x-www-form-urlencoded": map[string]any{"schema": map[string]any{"type": "object", "properties": form}},
			}}
		}
		method := "get"
		if r.act != nil {
			method = "post"
		}
		path := openPath(r.api)
		item, ok := paths[path].(map[string]any)
		if !ok {
			item = map[string]any{}
			paths[path] = item
		}
		item[method] = op
	}
	return map[string]any{
		"openapi":  "3.1.0",
		"info":     map[string]any{"title": "Ledgerfeed console", "version": "1"},
		"servers":  []any{map[string]any{"url": apiBase}},
		"security": []any{map[string]any{"token": []any{}}},
		"paths":    paths,
		"components": map[string]any{
			"securitySchemes": map[string]any{"token": map[string]any{"type": "http", "scheme": "bearer"}},
			"schemas": map[string]any{"Trouble": map[string]any{
				"type":       "object",
				"properties": map[string]any{"error": map[string]any{"type": "string"}, "detail": map[string]any{"type": "string"}},
			}},
		},
	}
}

func answer(text string, schema any) map[string]any {
	return map[string]any{"description": text, "content": map[string]any{"application/json": map[string]any{"schema": schema}}}
}

// openPath spells /realms/:realm as OpenAPI does.
func openPath(path string) string {
	parts := strings.Split(path, "/")
	for i, p := range parts {
		if name, ok := strings.CutPrefix(p, ":"); ok {
			parts[i] = "{" + name + "}"
		}
	}
	return strings.Join(parts, "/")
}
